"""Finds image files that can't be read before training does."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from odebackbones.engine.image_files import ImageFacts, inspect_image
from odebackbones.engine.log import progress_bar


def inspect_images(paths: Sequence[Path], *, decode: bool) -> list[ImageFacts | str]:
    """Read every image's header, or all of it, in threads.

    Args:
        paths: The image files.
        decode: Decode the pixels too, which finds truncated files.

    Returns:
        For each path what its header tells, or what is wrong with the file.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(partial(inspect_image, decode=decode), paths)
        return list(progress_bar("checking images", found, total=len(paths)))
