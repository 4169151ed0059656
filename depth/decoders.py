"""Decoders that map a backbone's features at several strides to one feature map at the finest stride."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """Resize ``x`` bilinearly to the height and width of ``like``."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear")


class SkipDecoder(nn.Module):
    """A U-Net decoder: at every stride, upsampling, concatenation with the features, and two 3x3 convolutions.

    O. Ronneberger, P. Fischer, T. Brox: U-Net, MICCAI 2015, arXiv:1505.04597; with bilinear upsampling as in I.
    Alhashim, P. Wonka: High Quality Monocular Depth Estimation via Transfer Learning, 2018, arXiv:1812.11941

    Args:
        in_channels: Channels of the features, from the finest to the coarsest.
        width: Channels at the finest stride; the coarser ones have 2, 4, 6 and 8 times as many.

    Shape:
        ``[(B, C_i, H_i, W_i), ...] -> (B, width, H_0, W_0)``
    """

    strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)
    multiples: ClassVar[tuple[int, ...]] = (1, 2, 4, 6, 8)

    def __init__(self, in_channels: Sequence[int], width: int) -> None:
        super().__init__()
        widths = [width * multiple for multiple in self.multiples[: len(in_channels)]]
        self.out_channels = widths[0]
        self.laterals = nn.ModuleList(
            Conv2dNormActivation(given, wanted, kernel_size=1)
            for given, wanted in zip(in_channels, widths, strict=True)
        )
        self.joints = nn.ModuleList(
            nn.Sequential(Conv2dNormActivation(fine + coarse, fine), Conv2dNormActivation(fine, fine))
            for fine, coarse in pairwise(widths)
        )

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return features at the finest stride that combine all levels."""
        skips = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        x = skips[-1]
        for joint, skip in zip(reversed(self.joints), reversed(skips[:-1]), strict=True):
            x = joint(torch.cat([upsample(x, skip), skip], dim=1))
        return x


class ResidualUnit(nn.Module):
    """Two convolutions, each after a ReLU and before a norm, plus the identity: ``(B, C, H, W) -> (B, C, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
            layers += [nn.ReLU(), convolution, nn.BatchNorm2d(channels)]
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch's output to ``x``."""
        return x + self.branch(x)


class FusionDecoder(nn.Module):
    """A decoder that fuses features from the coarsest to the finest with residual units, as in DPT and MiDaS.

    R. Ranftl, A. Bochkovskiy, V. Koltun: Vision Transformers for Dense Prediction, ICCV 2021, arXiv:2103.13413; after
    G. Lin et al.: RefineNet, CVPR 2017, arXiv:1611.06612

    Args:
        in_channels: Channels of the features, from the finest to the coarsest.
        width: A quarter of the number of channels of the fused features.

    Shape:
        ``[(B, C_i, H_i, W_i), ...] -> (B, 4 width, H_0, W_0)``
    """

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    def __init__(self, in_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.out_channels = channels = 4 * width
        self.laterals = nn.ModuleList(
            nn.Conv2d(given, channels, kernel_size=3, padding=1, bias=False) for given in in_channels
        )
        self.skips = nn.ModuleList(ResidualUnit(channels) for _ in in_channels[:-1])
        self.fusions = nn.ModuleList(ResidualUnit(channels) for _ in in_channels)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return features at the finest stride that combine all levels."""
        reduced = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        x = self.fusions[-1](reduced[-1])
        finer = zip(reversed(self.fusions[:-1]), reversed(self.skips), reversed(reduced[:-1]), strict=True)
        for fusion, skip, level in finer:
            x = fusion(upsample(x, level) + skip(level))
        return x


DECODERS: dict[str, type[SkipDecoder | FusionDecoder]] = {"skip": SkipDecoder, "fusion": FusionDecoder}
