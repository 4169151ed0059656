"""Vector fields for inference: at every time of their solver, convolutions with the norms folded in."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from odebackbones.errors import InputError
from odebackbones.fields.base import ConvolutionalField
from odebackbones.fields.basis import basis_values, blend
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.conv import TimeConv2d


class FusedConv2d(nn.Module):
    """A time-dependent convolution and the batch norm after it, as one convolution with a bias at each node.

    Args:
        conv: The convolution.
        norm: The norm; its nodes are the times at which this module can be evaluated.

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
        """Convolve with the weights of node ``node``, followed by a ReLU if ``activate``."""
        weight, bias = self.weight[node], self.bias[node]
        x = F.conv2d(x, weight, bias, (1, 1), self.padding, self.dilation, self.groups)
        if len(self.time_weight):
            ones = x.new_ones([1, 1, x.shape[2], x.shape[3]])
            x = x.add_(F.conv2d(ones, self.time_weight[node], None, (1, 1), self.padding, self.dilation))
        return F.relu(x, inplace=True) if activate else x


def fused_weights(conv: TimeConv2d, norm: TimeBatchNorm2d, t: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Fold convolution and norm at time ``t`` into one weight, one bias, and a weight of the channel of ones."""
    mean, var = norm.statistics(t)
    gain, offset = norm.affine(t)
    values = basis_values(conv.basis, conv.bases, t)
    weight, bias = fuse_conv_bn_weights(blend(list(conv.weight), values), None, mean, var, norm.eps, gain, offset)
    scale = t * (gain * torch.rsqrt(var + norm.eps)).reshape(-1, 1, 1, 1)
    time_weight = blend(list(conv.time_weight), values) * scale if conv.time_channel else None
    return weight.detach(), bias.detach(), None if time_weight is None else time_weight.detach()


class FusedField(nn.Module):
    """A vector field in evaluation mode, for the times of its solver only.

    Args:
        field: A field with batch norms.

    Shape:
        ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(self, field: ConvolutionalField) -> None:
        super().__init__()
        layers = field.layers()
        self.nodes = list(layers[0][1].nodes)  # pyright: ignore[reportArgumentType]
        self.layers = nn.ModuleList([FusedConv2d(conv, norm) for conv, norm in layers])  # pyright: ignore[reportArgumentType]
        self.se = field.se
        self.is_preactivated = field.is_preactivated

    def set_times(self, times: Sequence[float]) -> None:
        """Refuse new times.

        Raises:
            InputError: Always.
        """
        raise InputError("a fused model keeps its solver: change the solver of the original model, then fuse that")

    def node(self, t: float) -> int:
        """Return the index of the node at ``t``."""
        nearest = 0  # torch.compile of torch 2.6 does not support min(..., key=...)
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
        if self.is_preactivated:
            x = F.relu(x)
        for i, layer in enumerate(self.layers):
            x = layer(x, node, i < last)
        return self.se(x, t)
