"""Other runs that a training uses: the one whose weights it starts from, and its teacher."""

from pathlib import Path
from typing import Any

from engine.weights.checkpoint import BEST, LAST, load_checkpoint, weights_of
from engine.weights.pretrained import trained_network
from odebackbones.errors import InputError


def describe_sources(config: Any, *, task: str, resume: bool) -> dict[str, str]:
    """Describe the runs that a configuration names, by their settings, before any data is read.

    Args:
        config: Configuration of a task.
        task: Name of the task.
        resume: Whether the training goes on from its own weights, and needs no others to start from.

    Raises:
        InputError: There is no such run of the task.
    """
    start = "" if resume else getattr(config.model, "checkpoint", "")
    named = {"model.checkpoint": start, "distillation.teacher": config.distillation.teacher}
    found = {}
    for setting, path in named.items():
        if isinstance(path, str) and path and is_run(path):
            try:
                found[setting] = describe_run(weights_of(Path(path)), task=task)
            except InputError as error:
                raise InputError(f"{setting}: {error}") from error
    return found


def is_run(path: str) -> bool:
    """Whether a path means a run, and not another program's weight file."""
    return Path(path).name in (BEST, LAST) or not Path(path).is_file()


def describe_run(checkpoint: Path, *, task: str) -> str:
    """Return the file, the network and the epoch of a run's weights."""
    content = load_checkpoint(checkpoint, task=task)
    epoch = content.get("epoch") or len(content.get("history", ()))
    return f"{checkpoint}, {trained_network(content['config'])}, epoch {epoch}"
