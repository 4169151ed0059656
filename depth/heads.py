"""Heads that map features to depths [m] within bounds."""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor, nn


class SigmoidHead(nn.Module):
    r"""A head that gives the depth between its bounds: :math:`a + (b - a)\, \sigma(w * x)`.

    Args:
        in_channels: Channels of the features.
        bounds: Least and greatest depth a and b [m].

    Shape:
        ``(B, in_channels, H, W) -> (B, 1, H, W)`` [m]
    """

    def __init__(self, in_channels: int, bounds: tuple[float, float]) -> None:
        super().__init__()
        self.low, self.high = bounds
        self.conv = nn.Conv2d(in_channels, 1, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Predict the depth."""
        with torch.autocast(x.device.type, enabled=False):  # bfloat16's 8 bits of mantissa are too few for meters
            return self.low + (self.high - self.low) * self.conv(x.float()).sigmoid()


class LogBinsHead(nn.Module):
    r"""A head that averages depths at equal ratios in the logarithm: :math:`\exp \sum_k p_k \ln c_k`, p a softmax.

    Classes at equal ratios are from H. Fu et al.: Deep Ordinal Regression Network, CVPR 2018, arXiv:1806.02446; their
    mean is from S. F. Bhat et al.: AdaBins, CVPR 2021, arXiv:2011.14141

    Args:
        in_channels: Channels of the features.
        bounds: Least and greatest depth [m].
        bins: Number of depths.

    Shape:
        ``(B, in_channels, H, W) -> (B, 1, H, W)`` [m]
    """

    def __init__(self, in_channels: int, bounds: tuple[float, float], bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, bins, kernel_size=3, padding=1)
        centers = torch.linspace(log(bounds[0]), log(bounds[1]), bins)
        self.register_buffer("log_centers", centers, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Predict the depth."""
        with torch.autocast(x.device.type, enabled=False):
            shares = self.conv(x.float()).softmax(dim=1)
            return torch.einsum("bkhw,k->bhw", shares, self.get_buffer("log_centers")).exp()[:, None]


HEADS: dict[str, Callable[[int, tuple[float, float], int], SigmoidHead | LogBinsHead]] = {
    "sigmoid": lambda in_channels, bounds, bins: SigmoidHead(in_channels, bounds),
    "log_bins": LogBinsHead,
}
"""Name -> function that builds the head from channels, bounds [m] and bins."""
