"""Convolutions whose weights depend on time."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.fields.basis import basis_values, blend, blend_parameter, require_basis


class TimeConv2d(nn.Module):
    r"""A convolution whose weight (and bias, if there is one) depends on time, :math:`w(t) = \sum_k \varphi_k(t)\,w_k`.

    With ``time_channel`` it also sees the time as one more input channel, as in Chen et al., but without copying x:
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
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        empty = partial(torch.empty, device=device, dtype=dtype)
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.ParameterList([empty(shape) for _ in range(bases)])
        self.time_weight = nn.ParameterList(
            [empty(out_channels, 1, kernel_size, kernel_size) for _ in range(bases if time_channel else 0)]
        )
        self.bias = nn.ParameterList([empty(out_channels) for _ in range(bases if bias else 0)])
        require_basis(basis, bases)
        self.bases = bases
        self.basis = basis
        self.has_bias = bias
        self.padding = (dilation * (kernel_size // 2),) * 2
        self.groups = groups
        self.dilation = (dilation, dilation)
        self.time_channel = time_channel
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize Kaiming-normal over the fan-out of a group; polynomials start constant."""
        for weight in (*self.weight, *self.time_weight):
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        for weight in self.weight:
            weight.data.mul_(self.groups**0.5)  # torch counts the outputs of all groups
        for bias in self.bias:
            nn.init.zeros_(bias)
        if self.basis == "chebyshev":
            for weight in (*self.weight[1:], *self.time_weight[1:]):
                nn.init.zeros_(weight)

    def keep_first(self) -> None:
        """Reduce to a convolution with one weight, the first, at all times."""
        self.weight, self.time_weight, self.bias = self.weight[:1], self.time_weight[:1], self.bias[:1]
        self.bases, self.basis = 1, "constant"

    def tensors_at(self, t: float) -> dict[str, Tensor]:
        """Return the named tensors with which a one-weight convolution, called at time 1, equals this one at ``t``."""
        values = basis_values(self.basis, self.bases, t)
        tensors = {"weight.0": blend(list(self.weight), values)}
        if self.has_bias:
            tensors["bias.0"] = blend(list(self.bias), values)
        if self.time_channel:
            tensors["time_weight.0"] = t * blend(list(self.time_weight), values)
        return tensors

    def at(self, t: float) -> nn.Conv2d:
        """Build the plain convolution that equals this one at time ``t``.

        Raises:
            InputError: The convolution sees the time as a channel.
        """
        if len(self.time_weight):
            raise InputError(
                "cannot convert a TimeConv2d with time_channel=True to nn.Conv2d: build the field with "
                "time_channel=False"
            )
        values = basis_values(self.basis, self.bases, t)
        weight = blend_parameter(list(self.weight), values)
        options = {"padding": self.padding, "dilation": self.dilation, "groups": self.groups, "bias": self.has_bias}
        conv = nn.Conv2d(weight.shape[1] * self.groups, weight.shape[0], weight.shape[-1], **options).to(weight)
        conv.weight = weight
        if self.has_bias:
            conv.bias = blend_parameter(list(self.bias), values)
        return conv

    def forward(self, x: Tensor, t: float, gain: Tensor | None = None) -> Tensor:
        """Convolve with the weight at time ``t``, multiplied by ``gain: (out_channels,)`` if it is given."""
        values = basis_values(self.basis, self.bases, t)
        weight = blend(list(self.weight), values)
        if gain is not None:
            weight = weight * gain.reshape(-1, 1, 1, 1)
        bias = blend(list(self.bias), values) if self.has_bias else None
        x = F.conv2d(x, weight, bias, (1, 1), self.padding, self.dilation, self.groups)
        if self.time_channel:
            ones = x.new_ones([1, 1, x.shape[2], x.shape[3]])
            weight = blend(list(self.time_weight), values)
            if gain is not None:
                weight = weight * gain.reshape(-1, 1, 1, 1)
            x = torch.add(x, F.conv2d(ones, weight, None, (1, 1), self.padding, self.dilation), alpha=t)
        return x
