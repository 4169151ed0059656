"""Convolutions for inference on one CPU: weights in oneDNN's own layout."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.inference.fused_field import FusedConv2d

Model = TypeVar("Model", bound=nn.Module)


class PackedConv2d(nn.Module):
    """Convolutions of one shape for one CPU: weights in oneDNN's own layout, the ReLU within the convolution.

    oneDNN rearranges a plain weight at every call; for a small batch this takes a tenth of a convolution's time.
    The best layout depends on the input's size, so a new size packs again. The operator is the one in torch.compile's
    frozen CPU graphs. A packed module is not saved, exported or moved: save the model from which it was made.

    Args:
        weights: Weight of every node, on the CPU, in float32.
        biases: Bias for each weight, or None.
        padding: Padding, as in torch.nn.Conv2d.
        stride: Stride, as in torch.nn.Conv2d.
        dilation: Dilation, as in torch.nn.Conv2d.
        groups: Number of groups, as in torch.nn.Conv2d.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        *,
        padding: Sequence[int],
        stride: Sequence[int] = (1, 1),
        dilation: Sequence[int],
        groups: int,
    ) -> None:
        super().__init__()
        if not torch.backends.mkldnn.is_available():
            raise InputError("prepack=True needs a PyTorch with oneDNN, and this one has none; leave it out")
        if any(w.device.type != "cpu" or w.dtype != torch.float32 for w in weights):
            raise InputError("prepack=True is for float32 models on a CPU; leave it out")
        self.plain = [weight.detach().contiguous(memory_format=torch.channels_last) for weight in weights]
        self.biases = [None if bias is None else bias.detach() for bias in biases]
        self.geometry = list(padding), list(stride), list(dilation), groups
        self.packed: list[Tensor] = []
        self.size: torch.Size | None = None

    def forward(self, x: Tensor, node: int = 0, activate: bool = False) -> Tensor:
        """Convolve with the weight of node ``node``, followed by a ReLU if ``activate``."""
        x = x.contiguous(memory_format=torch.channels_last)
        if x.shape != self.size:
            self.pack(x.shape)
        activation = "relu" if activate else "none"
        convolve = torch.ops.mkldnn._convolution_pointwise
        return convolve(x, self.packed[node], self.biases[node], *self.geometry, activation, [], "")

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        raise InputError("a prepacked model can't be saved: save the one it was made of, and fuse that when loaded")

    def pack(self, size: torch.Size) -> None:
        """Lay the weights out for inputs of this size."""
        arrange = torch.ops.mkldnn._reorder_convolution_weight
        self.packed, self.size = [arrange(weight, *self.geometry, list(size)) for weight in self.plain], size


def pack_convolutions(model: Model) -> Model:
    """Replace the convolutions of fused fields and of discrete layers by packed convolutions."""
    for module in list(model.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, FusedConv2d) and not len(conv.time_weight):
                setattr(module, name, pack(conv, list(conv.weight), list(conv.bias)))
            elif isinstance(conv, nn.Conv2d) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
                setattr(module, name, pack(conv, [conv.weight], [conv.bias]))
    return model


def pack(conv: FusedConv2d | nn.Conv2d, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> PackedConv2d:
    """Return the packed form of a convolution with these weights and biases."""
    stride = getattr(conv, "stride", (1, 1))
    geometry = {"padding": conv.padding, "dilation": conv.dilation, "stride": stride}
    return PackedConv2d(weights, biases, groups=conv.groups, **geometry)
