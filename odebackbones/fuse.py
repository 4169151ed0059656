"""Models for inference: norms folded into the convolutions before them, at every evaluation time."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeGuard, TypeVar

import torch
import torch.nn.functional as F
from timm.layers import FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from odebackbones.errors import InputError
from odebackbones.fields import BasicField, BottleneckField, TimeBatchNorm2d, TimeConv2d, basis_index
from odebackbones.ode.adaptive import AdaptiveIntegrator
from odebackbones.stages import ODEBlock

Model = TypeVar("Model", bound=nn.Module)

FIXED_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d, FrozenBatchNormAct2d)
"""Norms that in evaluation are an affine map."""


class FusedConv2d(nn.Module):
    """A time-dependent convolution and the batch norm after it, as one convolution with a bias at each node.

    Args:
        conv: The convolution.
        norm: The norm; its nodes are the times that this serves.

    Shape:
        ``x: (B, in_channels, H, W) -> (B, out_channels, H, W)``
    """

    def __init__(self, conv: TimeConv2d, norm: TimeBatchNorm2d) -> None:
        super().__init__()
        self.padding, self.dilation, self.groups = conv.padding, conv.dilation, conv.groups
        parts = [fused_weights(conv, norm, t) for t in norm.nodes]
        self.weight, self.bias, self.time_weight = (
            nn.ParameterList([nn.Parameter(tensor, requires_grad=False) for tensor in tensors if tensor is not None])
            for tensors in zip(*parts, strict=True)
        )

    def forward(self, x: Tensor, node: int, activate: bool) -> Tensor:
        """Convolve as at node ``node``, and end with a ReLU or not."""
        for k, (weight, bias) in enumerate(zip(self.weight, self.bias)):  # noqa: B905 (TorchScript knows no `strict`)
            if k == node:
                x = F.conv2d(x, weight, bias, 1, self.padding, self.dilation, self.groups)
        for k, weight in enumerate(self.time_weight):
            if k == node:
                ones = x.new_ones([1, 1, x.shape[2], x.shape[3]])
                x = x.add_(F.conv2d(ones, weight, None, 1, self.padding, self.dilation))
        return F.relu(x, inplace=True) if activate else x


def fused_weights(conv: TimeConv2d, norm: TimeBatchNorm2d, t: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weight, bias and weight of the channel of ones of the two as one convolution at time ``t``."""
    mean, var = norm.statistics(t)
    gain, offset = norm.affine(t)
    index = basis_index(t, conv.bases)
    weight, bias = fuse_conv_bn_weights(conv.weight[index], None, mean, var, norm.eps, gain, offset)
    scale = t * (gain * torch.rsqrt(var + norm.eps)).reshape(-1, 1, 1, 1)
    time_weight = conv.time_weight[index] * scale if len(conv.time_weight) else None
    return weight.detach(), bias.detach(), None if time_weight is None else time_weight.detach()


class PackedConv2d(nn.Module):
    """Convolutions of one shape for one CPU: weights in oneDNN's own layout, the ReLU within the convolution.

    oneDNN rearranges a plain weight at every call; for a small batch that is a tenth of a convolution's time. The
    best layout depends on the input's size, so that a new size packs anew. The operator is that of torch.compile's
    frozen CPU graphs. It is neither saved, nor exported, nor moved: save the model of which it was made.

    Args:
        weights: The weight of every node, on the CPU, in float32.
        biases: Its bias, or None.
        padding: As torch.nn.Conv2d's.
        stride: As torch.nn.Conv2d's.
        dilation: As torch.nn.Conv2d's.
        groups: As torch.nn.Conv2d's.
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
        if any(w.device.type != "cpu" or w.dtype != torch.float32 for w in weights):
            raise InputError("prepack=True is for float32 models on a CPU; leave it out")
        self.plain = [weight.detach().contiguous(memory_format=torch.channels_last) for weight in weights]
        self.biases = [None if bias is None else bias.detach() for bias in biases]
        self.geometry = list(padding), list(stride), list(dilation), groups
        self.packed: list[Tensor] = []
        self.size: torch.Size | None = None

    def forward(self, x: Tensor, node: int = 0, activate: bool = False) -> Tensor:
        """Convolve as at node ``node``, and end with a ReLU or not."""
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


class FusedField(nn.Module):
    """A vector field in evaluation, at the times of its solver and no others.

    Args:
        field: A field with batch norms.

    Shape:
        ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    nodes: list[float]

    def __init__(self, field: BasicField | BottleneckField) -> None:
        super().__init__()
        layers = field.layers()
        self.nodes = list(layers[0][1].nodes)  # pyright: ignore[reportArgumentType]
        self.layers = nn.ModuleList([FusedConv2d(conv, norm) for conv, norm in layers])  # pyright: ignore[reportArgumentType]

    @torch.jit.unused
    def set_times(self, times: Sequence[float]) -> None:
        """Refuse other times.

        Raises:
            InputError: Always.
        """
        raise InputError("a fused model keeps its solver: change that of the model it was made of, then fuse")

    def node(self, t: float) -> int:
        """The node at ``t``."""
        nearest = 0
        for i, node in enumerate(self.nodes):
            if abs(node - t) < abs(self.nodes[nearest] - t):
                nearest = i
        if abs(self.nodes[nearest] - t) > 1e-6:
            raise InputError("a fused field holds at its solver's times only: change the solver first, then fuse")
        return nearest

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        node = self.node(t)
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x = layer(x, node, i < last)
        return x


def fuse(model: Model, *, prepack: bool = False) -> Model:
    """A copy of ``model`` for inference, in evaluation mode, with batch norms folded into convolutions.

    Those of the ODE blocks are folded once for every evaluation time, which takes a set of weights for each; those of
    the other layers where a norm follows a convolution in the order of the submodules, as in timm's ResNets. Outputs
    are equal up to rounding. Group norms stay.

    Args:
        model: Any module.
        prepack: Keep the weights in oneDNN's layout: faster on the CPU, and good for nothing else; such a model can't
            be saved.

    Raises:
        InputError: A solver finds its own times, for which nothing can be folded; or ``prepack`` on another device or
            dtype than the CPU's float32.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(fused.modules()):
        if not isinstance(module, ODEBlock):
            fuse_children(module)
        elif is_fusible(field := module.vector_field):
            if isinstance(module.integrator, AdaptiveIntegrator):
                raise InputError(
                    f"{module.name}: fuse folds norms at the solver's times, and {module.solver.method!r} finds its "
                    f"own; change it first: odebackbones.change_solver(model, 'rk4', steps=...)"
                )
            module.integrator.vector_field = FusedField(field)
    return pack_convolutions(fused) if prepack else fused


def is_fusible(field: nn.Module) -> TypeGuard[BasicField | BottleneckField]:
    """Whether it is one of our fields, with batch norms."""
    return isinstance(field, BasicField | BottleneckField) and isinstance(field.norm1, TimeBatchNorm2d)


def fuse_children(module: nn.Module) -> None:
    """Fold every batch norm among the direct submodules into the convolution just before it."""
    for (_, conv), (name, norm) in pairwise(module.named_children()):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, FIXED_NORMS) and norm.running_mean is not None:
            statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)  # pyright: ignore[reportArgumentType]
            conv.requires_grad_(False)
            setattr(module, name, getattr(norm, "act", None) or nn.Identity())  # timm may have an activation in it


def pack_convolutions(model: Model) -> Model:
    """Put packed convolutions in place of those of fused fields and of the discrete layers."""
    for module in list(model.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, FusedConv2d) and not len(conv.time_weight):
                packed = PackedConv2d(
                    list(conv.weight),
                    list(conv.bias),
                    padding=[conv.padding] * 2,
                    dilation=[conv.dilation] * 2,
                    groups=conv.groups,
                )
                setattr(module, name, packed)
            elif isinstance(conv, nn.Conv2d) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
                packed = PackedConv2d(
                    [conv.weight],
                    [conv.bias],
                    padding=conv.padding,
                    stride=conv.stride,
                    dilation=conv.dilation,
                    groups=conv.groups,
                )
                setattr(module, name, packed)
    return model
