"""Finds image files that cannot be read before training does."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from odebackbones.engine.media import UNREADABLE

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def find_image(folder: Path, stem: str) -> Path:
    """Return ``folder/stem`` with the suffix that exists; with the first one if none does."""
    candidates = [folder / f"{stem}{suffix}" for low in IMAGE_SUFFIXES for suffix in (low, low.upper())]
    return next((path for path in candidates if path.is_file()), candidates[0])


def check_images(paths: Iterable[Path], *, decode: bool) -> list[tuple[int, int] | str]:
    """Read every image's header, or all of it, in threads.

    Args:
        paths: The image files.
        decode: Decode the pixels too, which finds truncated files.

    Returns:
        For each path the width and height [px], or what is wrong with the file.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(partial(_check_image, decode=decode), paths))


def _check_image(path: Path, *, decode: bool) -> tuple[int, int] | str:
    if not path.is_file():
        return "image file is missing"
    try:
        with Image.open(path) as image:
            if decode:
                image.load()
            return image.size
    except UNREADABLE as error:
        return f"image cannot be read ({error})"
