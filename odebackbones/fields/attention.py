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
        channels: Of the input.
        width: Channels of the squeezed input.
        bases: Weights over time.
        basis: How they are combined.
        **factory: ``device`` and ``dtype``.

    Attributes:
        scale: Of the input, which is seen without it.

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
        """Weigh the channels of ``x`` as at time ``t``."""
        squeezed = F.relu(self.fc1(x.mean((2, 3), keepdim=True) / self.scale, t), inplace=True)
        return x * self.fc2(squeezed, t).sigmoid()


class NoAttention(nn.Module):
    """In place of channel attention: none."""

    def forward(self, x: Tensor, t: float) -> Tensor:
        """``x``."""
        return x
