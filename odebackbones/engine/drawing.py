"""Pictures of images: enlarged, captioned, as PNG files."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional

LEAST_SIDE = 320
"""Smaller images are enlarged, for what is drawn on them to be legible [px]."""

GREATEST_SIDE = 640
"""Captioned images are reduced to it [px]."""

FONT_SIZE = 14
MARGIN = 4
"""Of a caption [px]."""


def zoom_of(image: Tensor) -> int:
    """The whole number by which ``image: (C, H, W)`` is enlarged."""
    return max(1, round(LEAST_SIDE / min(image.shape[-2:])))


def enlarged(image: Tensor) -> Tensor:
    """``image: (C, H, W)``, each pixel repeated if there are few."""
    size = [zoom_of(image) * side for side in image.shape[-2:]]
    return functional.resize(image, size, interpolation=functional.InterpolationMode.NEAREST)


def captioned(image: Tensor, lines: Sequence[str]) -> Tensor:
    """The image with lines of text below it: ``(3, H, W)`` uint8 to ``(3, H', W')``, enlarged or reduced."""
    picture = functional.to_pil_image(enlarged(image))
    picture.thumbnail((GREATEST_SIDE, GREATEST_SIDE))
    font = ImageFont.truetype(font_file(), FONT_SIZE)
    step = FONT_SIZE + MARGIN
    canvas = Image.new("RGB", (picture.width, picture.height + step * len(lines) + MARGIN), "white")
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        draw.text((MARGIN, picture.height + step * i + MARGIN // 2), line, fill="black", font=font)
    return functional.pil_to_tensor(canvas)


def font_file() -> str:
    """matplotlib's own copy of DejaVu Sans: the same letters on every machine."""
    from matplotlib import font_manager

    return font_manager.findfont("DejaVu Sans")


def png(image: Tensor) -> bytes:
    """``(3, H, W)`` uint8 as a PNG file."""
    buffer = io.BytesIO()
    functional.to_pil_image(image).save(buffer, format="PNG")
    return buffer.getvalue()
