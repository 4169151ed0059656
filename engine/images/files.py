"""Image files of any kind that Pillow reads, as pictures of 8 bits, upright or as stored."""

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
"""Endings of image files, in lower case; files may have them in any."""

Turning = Literal["auto", "turn", "ignore"]
"""What an orientation in EXIF data does: the recorded size decides (upright where it can't), it turns, or nothing."""

ORIENTATION = 0x0112
"""EXIF's tag."""

SIDEWAYS = range(5, 9)
"""The orientations that exchange width and height."""

SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose whole numbers have 16 bits at most, though Pillow may read them as 32."""

BEHIND = "white"
"""What shows through transparent pixels."""

MAX_PIXELS = "ODEBACKBONES_MAX_PIXELS"
"""Environment variable: pixels of the largest image that is read, in place of Pillow's limit."""

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for a file that is missing, no image, or broken, and :func:`require_range` for one of no range."""


@dataclass(frozen=True)
class ImageFacts:
    """What an image file's header tells.

    Attributes:
        size: Width and height as stored [px].
        orientation: EXIF's number, 1 for none.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image turned upright [px]."""
        return (self.size[1], self.size[0]) if self.orientation in SIDEWAYS else self.size


Turn = bool | Callable[[ImageFacts], bool]
"""Whether to turn an image upright, or what decides it."""


def has_image_suffix(path: Path) -> bool:
    """Whether a file's name ends as an image's."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def open_image(path: Path) -> Image.Image:
    """An image file, its header read."""
    if limit := os.environ.get(MAX_PIXELS):
        Image.MAX_IMAGE_PIXELS = int(limit) // 2  # it warns from there on, and refuses twice as many
    return Image.open(path)


def inspect_image(path: Path, *, decode: bool) -> ImageFacts | str:
    """What the header tells, or what is wrong with the file.

    Args:
        path: The file.
        decode: Decode the pixels, too, which finds truncated files.
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
    """A decoded image.

    Args:
        path: The file.
        mode: Pillow's, of 8 bits.
        turn: Whether to turn it upright, as its EXIF data say.

    Raises:
        OSError, ValueError, ...: One of :data:`UNREADABLE`.
    """
    # Pillow warns of damage before it raises an error
    with warnings.catch_warnings(action="ignore"), open_image(path) as image:
        require_range(image)
        image.load()  # a PNG may tell its orientation at the end
        turns = turn(facts_of(image)) if callable(turn) else turn
        return eight_bits(ImageOps.exif_transpose(image) if turns else image).convert(mode)


def facts_of(image: Image.Image) -> ImageFacts:
    """What the header of an opened image tells."""
    return ImageFacts(image.size, image.getexif().get(ORIENTATION, 1))


def require_range(image: Image.Image) -> None:
    """Refuse numbers whose white point is unknown."""
    if image.mode == "F" or (image.mode == "I" and image.format not in SIXTEEN_BITS):
        kind = "floating-point numbers" if image.mode == "F" else "whole numbers"
        raise ValueError(f"32-bit {kind} have no known range; convert it to 8 or 16 bits")


def eight_bits(image: Image.Image) -> Image.Image:
    """The image in 8 bits a channel, without transparency: 16 bits are scaled by 1 / 257, 0..65535 to 0..255."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, BEHIND), layer).convert("RGB")
    return image


def reason(error: BaseException) -> str:
    """What went wrong, and for an image that is too large what to do."""
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        return f"more than {limit:.0f} million pixels; resize it, or set the environment variable {MAX_PIXELS}"
    return str(error) or type(error).__name__
