"""Generated data sets: a folder is written once, all or nothing, and never over anything else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from odebackbones.errors import InputError


def generate_once(folder: Path, write: Callable[[Path], None], *, holds: Callable[[], bool]) -> Path:
    """Write a data set beside its place and move it there once it is complete; keep the one that is there.

    Args:
        folder: Where to; its parents are made.
        write: Writes the set into a new folder, which it makes.
        holds: Tells whether ``folder`` holds the set already; raises if it holds anything else. It is asked again
            after a failed move, as another process may have been first.

    Returns:
        The folder.
    """
    if holds():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        built = Path(scratch) / folder.name
        write(built)
        try:
            built.replace(folder)
        except OSError:
            if not holds():
                raise
    return folder


def holds_set(folder: Path, info: dict[str, Any], *, index: str, kind: str) -> bool:
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
