r"""Vector fields: the residual branches of a ResNet with weights :math:`\theta(t)`, as functions of time and state.

The weights are piecewise constant in time, :math:`\theta(t) = \sum_k \phi_k(t)\,\theta_k` with K indicator functions
on equal parts of [0, 1]. K = 1 is the ODE-Net of Chen et al. (2018); K = N with N Euler steps is a ResNet.

A. F. Queiruga, N. B. Erichson, L. Hodgkinson, M. W. Mahoney: Stateful ODE-Nets using Basis Function Expansions,
NeurIPS 2021, arXiv:2106.10820
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from odebackbones.errors import InputError, unknown_name

NormLayer = Callable[[int], "TimeNorm"]
"""Makes a time-dependent norm ``(x, t) -> x`` for a number of channels."""


def basis_index(t: float, bases: int) -> int:
    """The k with ``t`` in [k / bases, (k + 1) / bases), for ``t`` in [0, 1]; a time just below a border is on it."""
    return min(max(int(t * bases + 1e-6), 0), bases - 1)


class TimeConv2d(nn.Module):
    r"""A convolution without bias whose weight is piecewise constant in time.

    With ``time_channel`` it also sees the time as one more input channel, as Chen et al.'s, and without copying x:
    :math:`w * [x, t] = w_x * x + t\,(w_t * 1)`.

    Shape:
        ``x: (B, in_channels, H, W) -> (B, out_channels, H, W)``, ``t`` in [0, 1]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        bases: int = 1,
        groups: int = 1,
        dilation: int = 1,
        time_channel: bool = False,
    ) -> None:
        super().__init__()
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.ParameterList([torch.empty(shape) for _ in range(bases)])
        self.time_weight = nn.ParameterList(
            [torch.empty(out_channels, 1, kernel_size, kernel_size) for _ in range(bases if time_channel else 0)]
        )
        self.bases = bases
        self.padding = dilation * (kernel_size // 2)
        self.groups = groups
        self.dilation = dilation
        self.reset_parameters()

    @torch.jit.unused
    def reset_parameters(self) -> None:
        """Kaiming-normal over the fan-out, as timm's ResNets."""
        for weight in (*self.weight, *self.time_weight):
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Convolve with the weight that holds at time ``t``."""
        index = basis_index(t, self.bases)
        for k, weight in enumerate(self.weight):  # TorchScript unrolls a ParameterList; it can't index one
            if k == index:
                x = F.conv2d(x, weight, None, 1, self.padding, self.dilation, self.groups)
        for k, weight in enumerate(self.time_weight):
            if k == index:
                ones = x.new_ones([1, 1, x.shape[2], x.shape[3]])
                x = torch.add(x, F.conv2d(ones, weight, None, 1, self.padding, self.dilation), alpha=t)
        return x


class TimeNorm(nn.Module):
    """The piecewise-constant affine map of a time-dependent norm: gain 1 and offset 0 at first."""

    def __init__(self, channels: int, *, bases: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.bases = bases
        self.weight = nn.ParameterList([torch.ones(channels) for _ in range(bases)])
        self.bias = nn.ParameterList([torch.zeros(channels) for _ in range(bases)])

    @torch.jit.unused
    def zero_gain(self) -> None:
        """Start from the zero map, as timm's ``zero_init_last`` does for the last norm of a residual branch."""
        for weight in self.weight:
            nn.init.zeros_(weight)

    @torch.jit.unused
    def set_times(self, times: Sequence[float]) -> None:
        """Prepare for evaluations at these times; a norm without statistics is ready for any."""

    def affine(self, t: float) -> tuple[Tensor, Tensor]:
        """Gain and offset ``(channels,)`` that hold at time ``t``."""
        index = basis_index(t, self.bases)
        gain, offset = self.weight[0], self.bias[0]
        for k, (weight, bias) in enumerate(zip(self.weight, self.bias)):  # noqa: B905 (TorchScript knows no `strict`)
            if k == index:
                gain, offset = weight, bias
        return gain, offset


class TimeBatchNorm2d(TimeNorm):
    """Batch normalisation with running statistics per evaluation time.

    The features of an ODE drift along its trajectory, so one running mean cannot describe them all. The statistics
    stand on the solver's evaluation times (``nodes``); at other times, in evaluation, they are interpolated
    linearly. In training the batch's own statistics serve, and the nearest node's running ones are updated.

    S. Ioffe, C. Szegedy: Batch Normalization, ICML 2015, arXiv:1502.03167

    Args:
        channels: Channels C.
        nodes: Evaluation times, ascending.
        bases: Number of affine maps over [0, 1].
        frozen: Always use the running statistics, and train nothing (as torchvision's FrozenBatchNorm2d).

    Shape:
        ``x: (B, C, H, W) -> (B, C, H, W)``
    """

    running_mean: Tensor
    running_var: Tensor
    nodes: list[float]
    momentum: float

    def __init__(
        self,
        channels: int,
        *,
        nodes: list[float],
        bases: int = 1,
        frozen: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(channels, bases=bases)
        self.nodes = list(nodes)
        self.eps = eps
        self.momentum = momentum
        self.frozen = False
        self.track_running_stats = True
        self.register_buffer("running_mean", torch.zeros(len(nodes), channels))
        self.register_buffer("running_var", torch.ones(len(nodes), channels))
        if frozen:
            self.freeze()

    @torch.jit.unused
    def freeze(self) -> None:
        """From now on use the running statistics, in training too, and train nothing."""
        self.frozen = True
        self.requires_grad_(False)

    @torch.jit.unused
    def set_times(self, times: Sequence[float]) -> None:
        """Move the nodes to these times, the running statistics by linear interpolation between the old ones."""
        found = [self.statistics(t) for t in times]
        self.nodes = list(times)
        self.running_mean, self.running_var = (torch.stack(rows).detach() for rows in zip(*found, strict=True))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        times = len(state_dict.get(f"{prefix}running_mean", self.nodes))
        if times == len(self.nodes):
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        *_, errors = args
        errors.append(
            f"{prefix[:-1]} has statistics at {len(self.nodes)} times, and the weights to load at {times}: build the "
            f"model with the solver that trained them, load them, then odebackbones.change_solver(model, ...)"
        )

    def statistics(self, t: float) -> tuple[Tensor, Tensor]:
        """Running mean and variance ``(channels,)`` at time ``t``."""
        index, fraction = self.locate(t)
        mean, var = self.running_mean[index], self.running_var[index]
        if fraction > 0.0:
            mean = torch.lerp(mean, self.running_mean[index + 1], fraction)
            var = torch.lerp(var, self.running_var[index + 1], fraction)
        return mean, var

    def locate(self, t: float) -> tuple[int, float]:
        """Index i and fraction w with ``t = (1 - w) * nodes[i] + w * nodes[i + 1]``; outside the nodes, the end."""
        for i, node in enumerate(self.nodes):
            if t <= node + 1e-9:
                if i == 0 or t >= node - 1e-9:
                    return i, 0.0
                return i - 1, (t - self.nodes[i - 1]) / (node - self.nodes[i - 1])
        return len(self.nodes) - 1, 0.0

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Normalise ``x`` as at time ``t``."""
        gain, offset = self.affine(t)
        if self.training and not self.frozen:
            if not self.track_running_stats:  # a recomputation: the batch was counted the first time
                return F.batch_norm(x, None, None, gain, offset, True, 0.0, self.eps)
            index, fraction = self.locate(t)
            nearest = index + int(fraction > 0.5)
            mean, var = self.running_mean[nearest], self.running_var[nearest]
            return F.batch_norm(x, mean, var, gain, offset, True, self.momentum, self.eps)
        mean, var = self.statistics(t)
        return F.batch_norm(x, mean, var, gain, offset, False, 0.0, self.eps)


def freeze_norms(model: nn.Module) -> nn.Module:
    """Freeze every batch norm in ``model``, timm's and ours; returns it with timm's replaced by frozen ones."""
    for module in model.modules():
        if isinstance(module, TimeBatchNorm2d):
            module.freeze()
    return freeze_batch_norm_2d(model)


class TimeGroupNorm(TimeNorm):
    """Group normalisation with a time-dependent affine map: no statistics, hence free of grid and batch size.

    Y. Wu, K. He: Group Normalization, ECCV 2018, arXiv:1803.08494

    Shape:
        ``x: (B, C, H, W) -> (B, C, H, W)``
    """

    def __init__(self, channels: int, *, bases: int = 1, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__(channels, bases=bases)
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Normalise ``x`` as at time ``t``."""
        gain, offset = self.affine(t)
        return F.group_norm(x, self.groups, gain, offset, self.eps)


NORMS: dict[str, Callable[[list[float], int], NormLayer]] = {
    "batch": lambda nodes, bases: partial(TimeBatchNorm2d, nodes=nodes, bases=bases),
    "frozen": lambda nodes, bases: partial(TimeBatchNorm2d, nodes=nodes, bases=bases, frozen=True),
    "group": lambda nodes, bases: partial(TimeGroupNorm, bases=bases),
}
"""Norm name -> from evaluation times and number of bases to the norm's constructor."""


def norm_layer(norm: str, *, nodes: list[float], bases: int) -> NormLayer:
    """The constructor of the norm called ``norm`` for a field with ``bases`` weights, evaluated at ``nodes``.

    Raises:
        InputError: The name is unknown, or a basis holds at none of the nodes and would never be trained.
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    idle = sorted(set(range(bases)) - {basis_index(t, bases) for t in nodes})
    if bases < 1:
        raise InputError(f"bases={bases}: expected at least 1")
    if idle:
        raise InputError(
            f"bases={bases}: the solver evaluates at {len(nodes)} times, and no time falls to the bases {idle}; "
            f"take 1 <= bases <= {len(nodes)} or more steps"
        )
    return NORMS[norm](nodes, bases)


class BasicField(nn.Module):
    r"""The branch of a basic residual block: :math:`f(t, x) = n_2(w_2 * \mathrm{relu}(n_1(w_1 * x)))`, 3x3 kernels.

    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385

    Args:
        channels: Of state and slope.
        width: Channels between the convolutions.
        norm: Makes a norm for a number of channels.
        bases: Weights over time.
        dilation: Of the convolutions.
        time_channel: Whether the convolutions see the time, too.

    Shape:
        ``t`` in [0, 1], ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        norm: NormLayer,
        bases: int = 1,
        dilation: int = 1,
        time_channel: bool = False,
    ) -> None:
        super().__init__()
        conv = partial(TimeConv2d, kernel_size=3, bases=bases, dilation=dilation, time_channel=time_channel)
        self.conv1 = conv(channels, width)
        self.norm1 = norm(width)
        self.conv2 = conv(width, channels)
        self.norm2 = norm(channels)

    @torch.jit.unused
    def layers(self) -> list[tuple[TimeConv2d, TimeNorm]]:
        """The convolutions with their norms; a ReLU stands between two."""
        return [(self.conv1, self.norm1), (self.conv2, self.norm2)]

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        x = F.relu(self.norm1(self.conv1(x, t), t), inplace=True)
        return self.norm2(self.conv2(x, t), t)


class BottleneckField(nn.Module):
    r"""The branch of a bottleneck residual block: 1x1 to ``width``, 3x3, 1x1 back, each with its norm.

    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385

    Args:
        channels: Of state and slope.
        width: Channels of the 3x3 convolution.
        norm: Makes a norm for a number of channels.
        bases: Weights over time.
        groups: Of the 3x3 convolution.
        dilation: Of the 3x3 convolution.
        time_channel: Whether the convolutions see the time, too.

    Shape:
        ``t`` in [0, 1], ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        norm: NormLayer,
        bases: int = 1,
        groups: int = 1,
        dilation: int = 1,
        time_channel: bool = False,
    ) -> None:
        super().__init__()
        conv = partial(TimeConv2d, bases=bases, time_channel=time_channel)
        self.conv1 = conv(channels, width, kernel_size=1)
        self.norm1 = norm(width)
        self.conv2 = conv(width, width, kernel_size=3, groups=groups, dilation=dilation)
        self.norm2 = norm(width)
        self.conv3 = conv(width, channels, kernel_size=1)
        self.norm3 = norm(channels)

    @torch.jit.unused
    def layers(self) -> list[tuple[TimeConv2d, TimeNorm]]:
        """The convolutions with their norms; a ReLU stands between two."""
        return [(self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)]

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        x = F.relu(self.norm1(self.conv1(x, t), t), inplace=True)
        x = F.relu(self.norm2(self.conv2(x, t), t), inplace=True)
        return self.norm3(self.conv3(x, t), t)


def zero_last_gain(field: BasicField | BottleneckField) -> None:
    """Start from the zero field, whose flow is the identity, as timm's ``zero_init_last``."""
    field.layers()[-1][1].zero_gain()
