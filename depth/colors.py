"""Depth maps as pictures: one range of colors for all, so that pictures can be compared and videos don't flicker."""

from collections.abc import Sequence
from math import log10

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional

from engine.images.drawing import FONT_SIZE, MARGIN, font_file

NEAREST = 1 / 40
"""Of the greatest depth: nearer ones have its color."""

GRAY = 128
"""Where nothing was measured."""

ERROR_RANGE = 0.5
"""Relative errors from it on have the last color."""

BAR = 14
"""Height of the scale bar [px]."""

STEPS = (1, 2, 5)
"""What the scale's marks are powers of ten of."""


def colorize(shares: Tensor, known: Tensor, colormap: str) -> Tensor:
    """A color for every share, gray where it isn't known.

    Args:
        shares: ``(H, W)`` in [0, 1].
        known: ``(H, W)`` bool.
        colormap: matplotlib's name.

    Returns:
        ``(3, H, W)`` uint8.
    """
    from matplotlib import colormaps  # not before it is used: half a second

    picture = torch.from_numpy(colormaps[colormap](shares.numpy(), bytes=True)[..., :3].copy()).permute(2, 0, 1)
    return torch.where(known, picture, GRAY).to(torch.uint8)


def color_depth(depth: Tensor, *, max_depth: float) -> Tensor:
    """A depth map in colors, from near (yellow) to far (violet), by the logarithm.

    Args:
        depth: ``(H, W)`` [m]; not above 0 where nothing was measured, which is drawn gray.
        max_depth: Greatest depth of the scale [m].

    Returns:
        ``(3, H, W)`` uint8.
    """
    return colorize(1 - depth_shares(depth, max_depth=max_depth), depth > 0, "plasma")


def depth_shares(depth: Tensor, *, max_depth: float) -> Tensor:
    """Where depths lie on the scale, from 0 (near) to 1 (far)."""
    near = NEAREST * max_depth
    return (depth.clamp(near, max_depth) / near).log() / -np.log(NEAREST)


def color_error(prediction: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """The relative error |p - g| / g in colors, from none (blue) to half and more (red), gray where it doesn't count.

    Args:
        prediction: ``(H, W)`` [m].
        truth: ``(H, W)`` [m].
        counted: ``(H, W)`` bool.

    Returns:
        ``(3, H, W)`` uint8.
    """
    error = (prediction - truth).abs() / truth.clamp(min=1e-6)
    return colorize((error / ERROR_RANGE).clamp(0, 1), counted, "RdYlBu_r")


def marks(max_depth: float) -> list[float]:
    """Round depths on the scale [m]: 2, 5, 10, ..."""
    powers = range(int(np.floor(log10(NEAREST * max_depth))), int(np.ceil(log10(max_depth))) + 1)
    values = [step * 10.0**power for power in powers for step in STEPS]
    return [value for value in values if NEAREST * max_depth <= value <= max_depth]


def scale_bar(width: int, *, max_depth: float) -> Tensor:
    """The scale of :func:`color_depth` with marks in meters: ``(3, H, width)`` uint8."""
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
        if left >= end:  # on narrow pictures, some marks only
            draw.line([(center, BAR), (center, BAR + MARGIN)], fill="black")
            draw.text((left, BAR + MARGIN), label, fill="black", font=font)
            end = left + wide + MARGIN
    return functional.pil_to_tensor(canvas)


def stack_pictures(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures ``(3, H, W)`` of one width, one above the other, with a white gap."""
    gap = torch.full((3, MARGIN, pictures[0].shape[2]), 255, dtype=torch.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return torch.cat(parts, dim=1)
