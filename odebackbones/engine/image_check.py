"""Finds image files that can't be read before training does."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from odebackbones.engine.log import progress_bar
from odebackbones.engine.media import UNREADABLE


def check_images(paths: Sequence[Path], *, decode: bool) -> list[tuple[int, int] | str]:
    """Read every image's header, or all of it, in threads.

    Args:
        paths: The image files.
        decode: Decode the pixels too, which finds truncated files.

    Returns:
        For each path the width and height [px], or what is wrong with the file.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(partial(check_image, decode=decode), paths)
        return list(progress_bar("checking images", found, total=len(paths)))


def check_image(path: Path, *, decode: bool) -> tuple[int, int] | str:
    """One image's width and height [px], or what is wrong with it."""
    if not path.is_file():
        return "image file is missing"
    try:
        with Image.open(path) as image:
            if decode:
                image.load()
            return image.size
    except UNREADABLE as error:
        return f"image cannot be read ({error})"
