"""Image files of any format that Pillow reads, as 8-bit images, upright or as stored."""

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
)
"""Suffixes of image files, in lower case; files may have them in any case."""

Turning = Literal["auto", "turn", "ignore"]
"""Use of the EXIF orientation: let the recorded size decide (upright if it can't), turn all images, or ignore it."""

ORIENTATION = 0x0112
"""EXIF tag of the orientation."""

SIDEWAYS = range(5, 9)
"""Orientations that swap width and height."""

SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose integers have at most 16 bits, although Pillow may read them as 32 bits."""

BEHIND = "white"
"""Background color behind transparent pixels."""

MAX_PIXELS = "ODEBACKBONES_MAX_PIXELS"
"""Environment variable: number of pixels of the largest image that is read, instead of Pillow's limit."""

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""Errors of Pillow for a missing, broken or non-image file, and of :func:`require_range` for an unknown range."""


@dataclass(frozen=True)
class ImageFacts:
    """Facts from an image file's header.

    Attributes:
        size: Width and height as stored [px].
        orientation: EXIF orientation, 1 for none.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image turned upright [px]."""
        return (self.size[1], self.size[0]) if self.orientation in SIDEWAYS else self.size


Turn = bool | Callable[[ImageFacts], bool]
"""Whether to turn an image upright, or a function that decides it."""


def has_image_suffix(path: Path) -> bool:
    """Whether a file's name has an image suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def open_image(path: Path) -> Image.Image:
    """Open an image file and read its header."""
    if limit := os.environ.get(MAX_PIXELS):
        Image.MAX_IMAGE_PIXELS = int(limit) // 2  # Pillow warns above this number and refuses above twice as many
    return Image.open(path)


def inspect_image(path: Path, *, decode: bool) -> ImageFacts | str:
    """Return the facts from the header, or what is wrong with the file.

    Args:
        path: The file.
        decode: Also decode the pixels, which finds truncated files.
    """
    if not path.is_file():
        return "image file is missing"
    try:
        with open_image(path) as image:
            require_range(image)
            if decode:
                image.load()
            told_at_the_end = image.format == "PNG" and "exif" not in image.info and not decode
            return ImageFacts(image.size) if told_at_the_end else facts_of(image)
    except UNREADABLE as error:
        return f"image cannot be read ({reason(error)})"


def read_image_file(path: Path, *, mode: str = "RGB", turn: Turn = True) -> Image.Image:
    """Read and decode an image.

    Args:
        path: The file.
        mode: Pillow mode of 8 bits.
        turn: Whether to turn the image upright according to its EXIF data.

    Raises:
        OSError, ValueError, ...: The file can't be read; one of :data:`UNREADABLE`.
    """
    # Pillow warns of damage before it raises an error
    with warnings.catch_warnings(action="ignore"), open_image(path) as image:
        require_range(image)
        image.load()  # a PNG may store its orientation at the end
        turns = turn(facts_of(image)) if callable(turn) else turn
        return eight_bits(ImageOps.exif_transpose(image) if turns else image).convert(mode)


def facts_of(image: Image.Image) -> ImageFacts:
    """Return the facts from the header of an opened image."""
    return ImageFacts(image.size, image.getexif().get(ORIENTATION, 1))


def require_range(image: Image.Image) -> None:
    """Refuse an image whose white point is unknown."""
    if image.mode == "F" or (image.mode == "I" and image.format not in SIXTEEN_BITS):
        kind = "floating-point numbers" if image.mode == "F" else "whole numbers"
        raise ValueError(f"32-bit {kind} have no known range; convert it to 8 or 16 bits")


def eight_bits(image: Image.Image) -> Image.Image:
    """Convert to 8 bits per channel, without transparency: 16 bits are scaled by 1 / 257, 0..65535 to 0..255."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, BEHIND), layer).convert("RGB")
    return image


def reason(error: BaseException) -> str:
    """Describe what went wrong and, for an image that is too large, what to do."""
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        return f"more than {limit:.0f} million pixels; resize it, or set the environment variable {MAX_PIXELS}"
    return str(error) or type(error).__name__
