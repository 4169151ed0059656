"""Vector fields for the cost measurements."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odebackbones.fields.conv import TimeConv2d
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BottleneckField


class PaperField(nn.Module):
    """Norm, ReLU and 3x3 convolution with a time channel, twice, then a norm.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366 (its MNIST example)

    Shape:
        ``x: (B, channels, H, W) -> (B, channels, H, W)``
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(32, channels) for _ in range(3)])
        self.convs = nn.ModuleList([TimeConv2d(channels, channels, kernel_size=3, time_channel=True) for _ in range(2)])

    def forward(self, t: float, x: Tensor) -> Tensor:
        """The slope at time ``t`` and state ``x``."""
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = conv(F.relu(norm(x), inplace=True), t)
        return self.norms[-1](x)


def measured_fields() -> dict[str, tuple[nn.Module, Tensor]]:
    """Build the three fields of the design, each with a state."""
    torch.manual_seed(0)
    bottleneck = BottleneckField(256, width=64, norm=norm_layer("group", nodes=[0.0], bases=1))
    return {
        "paper's field, 64 ch, 32x32, batch 8": (PaperField(64), torch.randn(8, 64, 32, 32)),
        "paper's field, 256 ch, 14x14, batch 4": (PaperField(256), torch.randn(4, 256, 14, 14)),
        "bottleneck field, 256 ch, 14x14, batch 8": (bottleneck, torch.randn(8, 256, 14, 14)),
    }
