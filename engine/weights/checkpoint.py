"""Checkpoints: state dicts and plain data, written completely or not at all, and read without running code."""

import io
import pickle
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from engine.atomic_files import write_atomically
from engine.old_settings import current_settings
from odebackbones.errors import InputError
from odebackbones.old_names import current_names

FORMAT = "odebackbones-checkpoint-1"

BEST, LAST = "best.pt", "last.pt"
"""Files of a run: the weights of the best epoch, and the latest state, to resume from."""


def weights_of(path: Path) -> Path:
    """Return the weight file that a path means: in a run's folder the best weights, or the last without best ones."""
    if not path.is_dir():
        return path
    return path / BEST if (path / BEST).is_file() or not (path / LAST).is_file() else path / LAST


def save_checkpoint(path: Path, *, task: str, **content: Any) -> None:
    """Write tensors and plain data under their names.

    Args:
        path: File to write.
        task: Name of the task.
        **content: State dicts, and data of Python's basic types.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "task": task, **content}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, *, task: str | None = None) -> dict[str, Any]:
    """Read a checkpoint (of ``task``, if given) onto the CPU.

    Raises:
        InputError: The file is missing, is damaged, holds code, or belongs to another program or task.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; {hint_of_runs(path)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not is_pickled(path):
            raise InputError(f"{path}: not a PyTorch checkpoint; give the best.pt or last.pt of a run") from error
        raise InputError(f"{path}: holds more than tensors and plain data (code), and is not loaded") from error
    except Exception as error:  # torch.load raises errors of any type on arbitrary bytes
        raise InputError(f"{path}: not a PyTorch checkpoint, or a damaged one ({first_line(error)})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: not a checkpoint of ours (format {FORMAT!r} expected); tools/train.py writes them")
    if task is not None and content["task"] != task:
        raise InputError(f"{path}: a checkpoint of the task {content['task']!r}, and {task!r} was asked for")
    weights = {name: current_names(content[name]) for name in ("model", "ema") if content.get(name)}
    return content | weights | {"config": current_settings(content.get("config") or {})}


def hint_of_runs(path: Path) -> str:
    """Say what to give in place of a path that is missing: the runs with a similar name beside it, if any."""
    folder = path.parent if path.name in (BEST, LAST) else path
    if (folder / BEST).is_file():
        return f"the run has {BEST} only"
    runs = {found.parent.name for file in (BEST, LAST) for found in folder.parent.glob(f"*/{file}")}
    near = [str(folder.parent / name) for name in get_close_matches(folder.name, sorted(runs - {folder.name}))]
    expected = "give the folder of a run, or its best.pt or last.pt"
    return f"did you mean {' or '.join(near)}? ({expected})" if near else expected


def is_pickled(path: Path) -> bool:
    """Whether a file begins like one of ``torch.save``: a zip archive, or a pickle."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_weights(model: torch.nn.Module, state: dict[str, Any], *, origin: str) -> None:
    """Load ``state`` into ``model``; all names and shapes must be equal.

    Raises:
        InputError: The weights belong to another model; the message names the first differences.
    """
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in own
        if k in state and own[k].shape != state[k].shape
    ]
    differences = [
        f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for kind, names in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
        if names
    ]
    if differences:
        raise InputError(f"{origin}: the weights of another model ({'; '.join(differences)})")
    model.load_state_dict(state)
