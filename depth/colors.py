"""Depth maps as pictures: all share one range of colors, so pictures can be compared and videos don't flicker."""

from collections.abc import Sequence
from math import log10

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional

from engine.images.drawing import FONT_SIZE, MARGIN, font_file

NEAREST = 1 / 40
"""Near end of the color scale, as a share of the greatest depth; nearer depths have the same color."""

GRAY = 128
"""Gray level where nothing was measured."""

ERROR_RANGE = 0.5
"""Relative error from which on all errors have the last color."""

BAR = 14
"""Height of the scale bar [px]."""

STEPS = (1, 2, 5)
"""Factors of powers of ten at which the scale has marks."""


def colorize(shares: Tensor, known: Tensor, colormap: str) -> Tensor:
    """Color every share, with gray where it is not known.

    Args:
        shares: Positions in the colormap, ``(H, W)`` in [0, 1].
        known: Pixels that are not gray, ``(H, W)`` bool.
        colormap: matplotlib's name of the colormap.

    Returns:
        ``(3, H, W)`` uint8.
    """
    from matplotlib import colormaps  # imported only when used: it takes half a second

    picture = torch.from_numpy(colormaps[colormap](shares.numpy(), bytes=True)[..., :3].copy()).permute(2, 0, 1)
    return torch.where(known, picture, GRAY).to(torch.uint8)


def color_depth(depth: Tensor, *, max_depth: float) -> Tensor:
    """Color a depth map from near (yellow) to far (violet), on a logarithmic scale.

    Args:
        depth: ``(H, W)`` [m]; drawn gray where it is not above 0, as nothing was measured there.
        max_depth: Greatest depth of the scale [m].

    Returns:
        ``(3, H, W)`` uint8.
    """
    return colorize(1 - depth_shares(depth, max_depth=max_depth), depth > 0, "plasma")


def depth_shares(depth: Tensor, *, max_depth: float) -> Tensor:
    """Return the positions of depths on the scale, from 0 (near) to 1 (far)."""
    near = NEAREST * max_depth
    return (depth.clamp(near, max_depth) / near).log() / -np.log(NEAREST)


def color_error(prediction: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Color the relative error |p - g| / g from 0 (blue) to 0.5 and more (red), gray where it doesn't count.

    Args:
        prediction: ``(H, W)`` [m].
        truth: ``(H, W)`` [m].
        counted: Pixels that count, ``(H, W)`` bool.

    Returns:
        ``(3, H, W)`` uint8.
    """
    error = (prediction - truth).abs() / truth.clamp(min=1e-6)
    return colorize((error / ERROR_RANGE).clamp(0, 1), counted, "RdYlBu_r")


def marks(max_depth: float) -> list[float]:
    """Return the round depths on the scale [m]: 2, 5, 10, ..."""
    powers = range(int(np.floor(log10(NEAREST * max_depth))), int(np.ceil(log10(max_depth))) + 1)
    values = [step * 10.0**power for power in powers for step in STEPS]
    return [value for value in values if NEAREST * max_depth <= value <= max_depth]


def scale_bar(width: int, *, max_depth: float) -> Tensor:
    """Draw the scale of :func:`color_depth` with marks in meters: ``(3, H, width)`` uint8."""
    near = NEAREST * max_depth
    along = near * (max_depth / near) ** torch.linspace(0, 1, width)
    bar = color_depth(along.expand(BAR, width), max_depth=max_depth)
    canvas = Image.new("RGB", (width, BAR + FONT_SIZE + 2 * MARGIN), "white")
    canvas.paste(functional.to_pil_image(bar))
    draw, font = ImageDraw.Draw(canvas), ImageFont.truetype(font_file(), FONT_SIZE)
    end = 0
    for value in marks(max_depth):
        label = f"{value:g} m"
        wide = int(draw.textlength(label, font=font))
        center = int(depth_shares(torch.tensor(value), max_depth=max_depth) * (width - 1))
        left = min(max(center - wide // 2, 0), width - wide)
        if left >= end:  # narrow pictures have room for some marks only
            draw.line([(center, BAR), (center, BAR + MARGIN)], fill="black")
            draw.text((left, BAR + MARGIN), label, fill="black", font=font)
            end = left + wide + MARGIN
    return functional.pil_to_tensor(canvas)


def stack_pictures(pictures: Sequence[Tensor]) -> Tensor:
    """Stack pictures ``(3, H, W)`` of the same width vertically, with white gaps."""
    gap = torch.full((3, MARGIN, pictures[0].shape[2]), 255, dtype=torch.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return torch.cat(parts, dim=1)
