"""Drawing on images: enlarging, captions and PNG encoding."""

import io
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional

LEAST_SIDE = 320
"""Side to which smaller images are enlarged, approximately, so that drawings on them are legible [px]."""

GREATEST_SIDE = 640
"""Side to which larger captioned images are reduced [px]."""

FONT_SIZE = 14
MARGIN = 4
"""Margin of a caption [px]."""


def zoom_of(image: Tensor) -> int:
    """Return the integer factor by which ``image: (C, H, W)`` is enlarged."""
    return max(1, round(LEAST_SIDE / min(image.shape[-2:])))


def enlarge(image: Tensor) -> Tensor:
    """Enlarge a small ``image: (C, H, W)`` by repeating its pixels."""
    size = [zoom_of(image) * side for side in image.shape[-2:]]
    return functional.resize(image, size, interpolation=functional.InterpolationMode.NEAREST)


def add_captions(image: Tensor, lines: Sequence[str]) -> Tensor:
    """Add lines of text below the image: ``(3, H, W)`` uint8 to ``(3, H', W')``, enlarged or reduced."""
    picture = functional.to_pil_image(enlarge(image))
    picture.thumbnail((GREATEST_SIDE, GREATEST_SIDE))
    font = ImageFont.truetype(font_file("".join(lines)), FONT_SIZE)
    step = FONT_SIZE + MARGIN
    canvas = Image.new("RGB", (picture.width, picture.height + step * len(lines) + MARGIN), "white")
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        draw.text((MARGIN, picture.height + step * i + MARGIN // 2), line, fill="black", font=font)
    return functional.pil_to_tensor(canvas)


def font_file(text: str = "") -> str:
    """Return a font for a text: matplotlib's copy of DejaVu Sans, the same on every machine, if it has the letters.

    It lacks Chinese, Japanese and Korean letters; for them, the first system font that has them is used, if any.
    """
    from matplotlib import font_manager

    own = font_manager.findfont("DejaVu Sans")
    letters = frozenset(letter for letter in text if not letter.isspace())
    return own if letters <= letters_of(own) else system_font(letters) or own


@cache
def letters_of(file: str) -> frozenset[str]:
    """Return the letters that a font has."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except RuntimeError:  # a font format that FT2Font can't read
        return frozenset()


@cache
def system_font(letters: frozenset[str]) -> str | None:
    """Return the first system font that has these letters; None if there is none."""
    from matplotlib import font_manager

    return next((file for file in sorted(font_manager.findSystemFonts()) if letters <= letters_of(file)), None)


def legible(name: str, fallback: str) -> str:
    """Return a name, or its fallback if no font has its letters, which would then be drawn as boxes."""
    return name if frozenset("".join(name.split())) <= letters_of(font_file(name)) else fallback


def png(image: Tensor) -> bytes:
    """Encode ``(3, H, W)`` uint8 as a PNG file."""
    buffer = io.BytesIO()
    functional.to_pil_image(image).save(buffer, format="PNG")
    return buffer.getvalue()
