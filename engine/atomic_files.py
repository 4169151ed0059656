"""Data folders that are written completely or not at all, and never over anything else."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from odebackbones.errors import InputError


def generate_if_missing(folder: Path, write: Callable[[Path], None], *, holds: Callable[[], bool]) -> Path:
    """Write a data set next to its place and move it there once it is complete; keep one that is already there.

    Args:
        folder: Target folder; its parents are created.
        write: Writes the set into an empty folder.
        holds: Tells whether ``folder`` already holds the set; raises if it holds anything else. It is called again
            after a failed move, as another process may have been first.

    Returns:
        The folder.
    """
    if holds():
        return folder
    try:
        with staged(folder) as built:
            write(built)
    except OSError:
        if not holds():
            raise
    return folder


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``out`` if all goes well and is removed otherwise.

    Raises:
        InputError: ``out`` exists already and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already and not an empty folder; delete it or choose another")
    with staged(out) as built:
        yield built


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a new folder next to ``folder``, moved into its place at the end, or removed if something goes wrong."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        built = Path(scratch) / folder.name  # not the temporary folder itself: only its owner may read that
        built.mkdir()
        yield built
        built.replace(folder)


def is_complete(folder: Path, info: dict[str, Any], *, index: str, kind: str) -> bool:
    """Tell whether the folder holds the generated set; refuse a folder that holds anything else.

    Args:
        folder: Folder to look into.
        info: Parameters of the set, of JSON's types.
        index: Name of the set's JSON file, which has ``info`` under that key.
        kind: Kind of the set, for the error message.

    Raises:
        InputError: The folder is not empty and does not hold the set with these parameters.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / index).read_text(encoding="utf-8")).get("info")
    except (OSError, ValueError, AttributeError):
        found = None
    if found != info:
        raise InputError(
            f"{folder}: holds something else than the {kind} of {info}; delete it or set another --data.root"
        )
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Write next to ``path``, then rename: a crash or a full disk leaves the old file intact."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
