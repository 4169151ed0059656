"""Checks for image files that can't be read or are in both splits, before training finds them."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from engine.images.files import ImageFacts, inspect_image
from engine.log import progress_bar, warn


def warn_of_common_images(train: Iterable[Path], val: Iterable[Path]) -> None:
    """Warn of files that are in both splits: measurements on them prove nothing."""
    validation = {path.resolve() for path in val}
    if common := {path.resolve() for path in train} & validation:
        warn(
            f"{len(common)} of the {len(validation)} validation images are training images, too, such as "
            f"{min(common)}: metrics will be too good"
        )


def inspect_images(paths: Sequence[Path], *, decode: bool) -> list[ImageFacts | str]:
    """Read every image's header, or all of it, in threads.

    Args:
        paths: The image files.
        decode: Also decode the pixels, which finds truncated files.

    Returns:
        For each path, the facts from its header, or what is wrong with the file.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(partial(inspect_image, decode=decode), paths)
        return list(progress_bar("checking images", found, total=len(paths)))
