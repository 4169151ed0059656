"""Layers whose weights depend on time: convolutions, norms and channel attention."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from odebackbones.bases import basis_values, blend, require_basis, require_reached
from odebackbones.errors import InputError, unknown_name

NormLayer = Callable[[int], "TimeNorm"]
"""Makes a time-dependent norm for a number of channels; fields call ``norm(conv(x, t, norm.weight_gain(t)), t)``."""


def blended(parameters: Sequence[Tensor], values: Sequence[float], *, factor: float = 1.0) -> nn.Parameter:
    """The sum of the parameters, each times its value, as a parameter, which is trained if one that counts is."""
    total = factor * blend(list(parameters), list(values))
    is_trained = any(p.requires_grad for p, value in zip(parameters, values, strict=True) if value)
    return nn.Parameter(total.detach().clone(), requires_grad=is_trained)


class TimeConv2d(nn.Module):
    r"""A convolution whose weight (and bias, if there is one) depends on time, :math:`w(t) = \sum_k \varphi_k(t)\,w_k`.

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
        basis: str = "constant",
        groups: int = 1,
        dilation: int = 1,
        time_channel: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.ParameterList([torch.empty(shape) for _ in range(bases)])
        self.time_weight = nn.ParameterList(
            [torch.empty(out_channels, 1, kernel_size, kernel_size) for _ in range(bases if time_channel else 0)]
        )
        self.bias = nn.ParameterList([torch.zeros(out_channels) for _ in range(bases if bias else 0)])
        require_basis(basis, bases)
        self.bases = bases
        self.basis = basis
        self.has_bias = bias
        self.padding = dilation * (kernel_size // 2)
        self.groups = groups
        self.dilation = dilation
        self.time_channel = time_channel
        self.reset_parameters()

    @torch.jit.unused
    def reset_parameters(self) -> None:
        """Kaiming-normal over the fan-out of a group; polynomials start constant."""
        for weight in (*self.weight, *self.time_weight):
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        for weight in self.weight:
            weight.data.mul_(self.groups**0.5)  # torch counts the outputs of all groups
        if self.basis == "chebyshev":
            for weight in (*self.weight[1:], *self.time_weight[1:]):
                nn.init.zeros_(weight)

    @torch.jit.unused
    def at(self, t: float) -> nn.Conv2d:
        """The plain convolution that this is at time ``t``.

        Raises:
            InputError: It sees the time as a channel.
        """
        if len(self.time_weight):
            raise InputError("a convolution with a time channel is no plain one")
        values = basis_values(self.basis, self.bases, t)
        weight = blended(list(self.weight), values)
        options = {"padding": self.padding, "dilation": self.dilation, "groups": self.groups, "bias": self.has_bias}
        conv = nn.Conv2d(weight.shape[1] * self.groups, weight.shape[0], weight.shape[-1], **options).to(weight)
        conv.weight = weight
        if self.has_bias:
            conv.bias = blended(list(self.bias), values)
        return conv

    def forward(self, x: Tensor, t: float, gain: Tensor | None = None) -> Tensor:
        """Convolve with the weight that holds at time ``t``, times ``gain: (out_channels,)`` if it is given."""
        values = basis_values(self.basis, self.bases, t)
        weight = blend([w for w in self.weight], values)  # noqa: C416 (TorchScript unrolls a ParameterList; no `list`)
        if gain is not None:
            weight = weight * gain.reshape(-1, 1, 1, 1)
        bias: Tensor | None = None
        if self.has_bias:
            bias = blend([b for b in self.bias], values)  # noqa: C416
        x = F.conv2d(x, weight, bias, 1, self.padding, self.dilation, self.groups)
        if self.time_channel:
            ones = x.new_ones([1, 1, x.shape[2], x.shape[3]])
            weight = blend([w for w in self.time_weight], values)  # noqa: C416
            if gain is not None:
                weight = weight * gain.reshape(-1, 1, 1, 1)
            x = torch.add(x, F.conv2d(ones, weight, None, 1, self.padding, self.dilation), alpha=t)
        return x


class TimeNorm(nn.Module):
    """The affine map of a time-dependent norm, whose gain and offset depend on time: 1 and 0 at first.

    Attributes:
        scale: A constant by which both are multiplied.
    """

    def __init__(self, channels: int, *, bases: int = 1, basis: str = "constant") -> None:
        super().__init__()
        require_basis(basis, bases)
        self.scale = 1.0
        self.channels = channels
        self.bases = bases
        self.basis = basis
        gains = [0.0 if basis == "chebyshev" and k else 1.0 for k in range(bases)]
        self.weight = nn.ParameterList([torch.full((channels,), gain) for gain in gains])
        self.bias = nn.ParameterList([torch.zeros(channels) for _ in range(bases)])

    @torch.jit.unused
    def zero_gain(self) -> None:
        """Start from the zero map, as timm's ``zero_init_last`` does for the last norm of a residual branch."""
        for weight in self.weight:
            nn.init.zeros_(weight)

    @torch.jit.unused
    def set_times(self, times: Sequence[float]) -> None:
        """Prepare for evaluations at these times; a norm without statistics is ready for any."""

    def weight_gain(self, t: float) -> Tensor | None:
        """Gain ``(channels,)`` at time ``t`` for the convolution before to take into its weights; None for none."""
        return None

    def affine(self, t: float) -> tuple[Tensor, Tensor]:
        """Gain and offset ``(channels,)`` that hold at time ``t``."""
        values = basis_values(self.basis, self.bases, t)
        gain = blend([w for w in self.weight], values)  # noqa: C416 (TorchScript unrolls a ParameterList; no `list`)
        offset = blend([b for b in self.bias], values)  # noqa: C416
        if self.scale == 1.0:  # no tensors of their own
            return gain, offset
        return self.scale * gain, self.scale * offset


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
        basis: str = "constant",
        frozen: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(channels, bases=bases, basis=basis)
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

    @torch.jit.unused
    def at(self, t: float, *, factor: float = 1.0) -> nn.BatchNorm2d:
        """The plain norm that this is at time ``t``, its gain and offset ``factor`` times."""
        (mean, var), values = self.statistics(t), basis_values(self.basis, self.bases, t)
        norm = nn.BatchNorm2d(self.channels, eps=self.eps, momentum=self.momentum).to(mean)
        factor *= self.scale
        norm.weight, norm.bias = (blended(list(p), values, factor=factor) for p in (self.weight, self.bias))
        norm.running_mean, norm.running_var = mean.detach().clone(), var.detach().clone()
        return norm

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

    def __init__(
        self, channels: int, *, bases: int = 1, basis: str = "constant", groups: int = 32, eps: float = 1e-5
    ) -> None:
        super().__init__(channels, bases=bases, basis=basis)
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Normalise ``x`` as at time ``t``."""
        gain, offset = self.affine(t)
        return F.group_norm(x, self.groups, gain, offset, self.eps)


class TimeAffine(TimeNorm):
    """No normalisation, but a gain and an offset: as VGG's convolutions, with a gain from which a field starts at zero.

    The convolution before takes the gain into its weights: features scaled afterwards would be kept twice for the
    backward pass.

    H. Zhang, Y. N. Dauphin, T. Ma: Fixup Initialization, ICLR 2019, arXiv:1901.09321, has such gains.

    Shape:
        ``x: (B, C, H, W) -> (B, C, H, W)``
    """

    def weight_gain(self, t: float) -> Tensor | None:
        """The gain; no parameter itself, which as a module's argument upsets torch's FLOP counter in inference mode."""
        return self.affine(t)[0].clone()

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Add the offset that holds at time ``t`` to ``x``, in place."""
        return x.add_(self.affine(t)[1].reshape(-1, 1, 1))


NORMS: dict[str, Callable[[list[float]], Callable[..., "TimeNorm"]]] = {
    "batch": lambda nodes: partial(TimeBatchNorm2d, nodes=nodes),
    "frozen": lambda nodes: partial(TimeBatchNorm2d, nodes=nodes, frozen=True),
    "group": lambda nodes: TimeGroupNorm,
    "none": lambda nodes: TimeAffine,
}
"""Norm name -> from evaluation times to the norm's constructor."""


def norm_layer(norm: str, *, nodes: list[float], bases: int, basis: str = "constant") -> NormLayer:
    """The constructor of the norm called ``norm`` for a field with ``bases`` weights, evaluated at ``nodes``.

    Raises:
        InputError: The name is unknown, or a basis holds at none of the nodes and would never be trained.
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    require_reached(basis, bases, nodes)
    return partial(NORMS[norm](nodes), bases=bases, basis=basis)


class TimeSqueezeExcite(nn.Module):
    """Channel attention whose weights depend on time: timm's SEModule at every time.

    J. Hu, L. Shen, G. Sun: Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507

    Args:
        channels: Of the input.
        width: Channels of the squeezed input.
        bases: Weights over time.
        basis: How they are combined.

    Attributes:
        scale: Of the input, which is seen without it.

    Shape:
        ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(self, channels: int, width: int, *, bases: int = 1, basis: str = "constant") -> None:
        super().__init__()
        self.scale = 1.0
        conv = partial(TimeConv2d, kernel_size=1, bases=bases, basis=basis, bias=True)
        self.fc1 = conv(channels, width)
        self.fc2 = conv(width, channels)

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Weigh the channels of ``x`` as at time ``t``."""
        squeezed = F.relu(self.fc1(x.mean((2, 3), keepdim=True) / self.scale, t), inplace=True)
        return x * self.fc2(squeezed, t).sigmoid()


class Untouched(nn.Module):
    """In place of channel attention: none."""

    def forward(self, x: Tensor, t: float) -> Tensor:
        """``x``."""
        return x
