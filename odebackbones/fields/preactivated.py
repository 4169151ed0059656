"""The field of Chen et al. (2018), whose norms come before the convolutions."""

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.fields.base import TimeField
from odebackbones.fields.conv import TimeConv2d
from odebackbones.fields.norms import NormLayer


class PreactivatedField(TimeField):
    r"""Chen et al.'s field: :math:`f(t, x) = n_3(w_2 * \mathrm{relu}(n_2(w_1 * \mathrm{relu}(n_1(x)))))`.

    Without the last norm it is the branch of a residual block of K. He et al.: Identity Mappings in Deep Residual
    Networks, ECCV 2016, arXiv:1603.05027.

    Args:
        channels: Number of channels of the state and the slope.
        norm: Factory of a norm for a number of channels.
        bases: Number of weights over time.
        basis: Basis that combines the weights: a name of :data:`~odebackbones.fields.basis.BASES`.
        time_channel: Whether the convolutions see the time as a channel, too, and have a bias.
        last_norm: Whether the field ends with a norm.
        **factory: ``device`` and ``dtype``.

    Shape:
        ``t`` in [0, 1], ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(
        self,
        channels: int,
        *,
        norm: NormLayer,
        bases: int = 1,
        basis: str = "constant",
        time_channel: bool = False,
        last_norm: bool = True,
        **factory: Any,
    ) -> None:
        super().__init__()
        weights = {"bases": bases, "basis": basis, "time_channel": time_channel, "bias": time_channel, **factory}
        conv = partial(TimeConv2d, channels, channels, kernel_size=3, **weights)
        self.norm1, self.conv1 = norm(channels), conv()
        self.norm2, self.conv2 = norm(channels), conv()
        self.duration = 1.0
        self.norm3 = norm(channels) if last_norm else None

    def start_at_zero(self) -> None:
        """Start from the zero field."""
        if self.norm3 is not None:
            self.norm3.zero_gain()
        else:
            for weight in (*self.conv2.weight, *self.conv2.time_weight):
                nn.init.zeros_(weight)

    def set_duration(self, duration: float) -> None:
        """Set the integration time, by which the slope is multiplied."""
        self.duration = duration
        if self.norm3 is not None:
            self.norm3.scale = duration

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        x = self.conv1(F.relu(self.norm1(x, t), inplace=True), t)
        x = self.conv2(F.relu(self.norm2(x, t), inplace=True), t)
        return self.duration * x if self.norm3 is None else self.norm3(x, t)
