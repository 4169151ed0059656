"""Checks for image files that can't be read or are in both splits, before training finds them."""

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from engine.images.files import ImageFacts, has_image_suffix, inspect_image
from engine.log import progress_bar, warn
from odebackbones.errors import InputError

GENERATED = re.compile(r"\w+_(train|val)_[\dx]+px_seed\d+")
"""Names of folders with generated images."""

SEARCHED = 2000
"""Number of folders that are searched for images."""


def refuse_other_images(root: Path, *, generated: str, formats: Iterable[str]) -> None:
    """Refuse to generate images in a folder that holds the user's own.

    Args:
        root: Folder in which images are to be generated.
        generated: The ``data.format`` that generates them.
        formats: The formats that read the user's.

    Raises:
        InputError: The folder holds images that were not generated; the message names one.
    """
    for folder, names, files in islice(os.walk(root), SEARCHED):
        is_run = "config.yaml" in files  # with the pictures of its report
        names[:] = [] if is_run else [name for name in names if not GENERATED.fullmatch(name)]
        if found := [] if is_run else [file for file in files if has_image_suffix(Path(file))]:
            raise InputError(
                f"{root}: data.format={generated} generates images there, but it holds others, such as "
                f"{Path(folder, min(found))}: set --data.format to {', '.join(formats)} to read them, or --data.root "
                f"to a folder for generated images"
            )


def generated_note(form: str) -> str:
    """Say that a ``data.format`` trains on generated images."""
    return f"data.format={form}: the images are generated, not your own"


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
