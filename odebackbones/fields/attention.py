"""Channel attention whose weights depend on time."""

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.fields.conv import TimeConv2d


class TimeSqueezeExcite(nn.Module):
    """Channel attention whose weights depend on time: timm's SEModule at every time.

    J. Hu, L. Shen, G. Sun: Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507

    Args:
        channels: Number of channels of the input.
        width: Number of channels of the squeezed input.
        bases: Number of weights over time.
        basis: Basis that combines the weights.
        **factory: ``device`` and ``dtype``.

    Attributes:
        scale: Factor divided out of the input before attention.

    Shape:
        ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(self, channels: int, width: int, *, bases: int = 1, basis: str = "constant", **factory: Any) -> None:
        super().__init__()
        self.scale = 1.0
        conv = partial(TimeConv2d, kernel_size=1, bases=bases, basis=basis, bias=True, **factory)
        self.fc1 = conv(channels, width)
        self.fc2 = conv(width, channels)

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Weight the channels of ``x`` by the attention at time ``t``."""
        squeezed = F.relu(self.fc1(x.mean((2, 3), keepdim=True) / self.scale, t), inplace=True)
        return x * self.fc2(squeezed, t).sigmoid()


class NoAttention(nn.Module):
    """An identity in place of channel attention."""

    def forward(self, x: Tensor, t: float) -> Tensor:
        """Return ``x``."""
        return x
