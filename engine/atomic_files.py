"""Folders of data that are written whole or not at all, and never over anything else."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from odebackbones.errors import InputError


def generate_if_missing(folder: Path, write: Callable[[Path], None], *, holds: Callable[[], bool]) -> Path:
    """Write a data set beside its place and move it there once it is complete; keep the one that is there.

    Args:
        folder: Where to; its parents are made.
        write: Writes the set into an empty folder.
        holds: Tells whether ``folder`` holds the set already; raises if it holds anything else. It is asked again
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
    """A folder to fill that becomes ``out`` when all went well; otherwise nothing is left of it.

    Raises:
        InputError: ``out`` is there already, and no empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already and not an empty folder; delete it or choose another")
    with staged(out) as built:
        yield built


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, moved into its place at the end, or gone if something went wrong."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        built = Path(scratch) / folder.name  # not the temporary folder itself: only its owner may read that
        built.mkdir()
        yield built
        built.replace(folder)


def is_complete(folder: Path, info: dict[str, Any], *, index: str, kind: str) -> bool:
    """Tell whether the folder holds the generated set; refuse to touch a folder of anything else.

    Args:
        folder: What to look into.
        info: The parameters of the set, of JSON's types.
        index: Name of the set's JSON file that has ``info`` under that key.
        kind: What the set is of, for the error.

    Raises:
        InputError: The folder is not empty and not the set of these parameters.
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
    """Write next to ``path``, then rename: a crash or a full disk leaves the old file whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
