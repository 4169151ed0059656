"""Checks before a run is resumed from its last checkpoint."""

from pathlib import Path
from typing import Any

from engine.task import Task, TaskConfig
from engine.training.settings import differences, to_dict, with_defaults
from engine.weights.checkpoint import load_checkpoint
from odebackbones.errors import InputError


def load_to_resume(path: Path, task: Task | type[Task], config: TaskConfig) -> dict[str, Any]:
    """Load the checkpoint of a run that is resumed with the same settings, or another number of epochs not yet trained.

    Raises:
        InputError: A setting that the weights depend on differs.
    """
    state = load_checkpoint(path, task=task.name)
    before = with_defaults(state["config"], to_dict(type(config)()))
    changed = differences(before, to_dict(config), free=task.free_settings)
    if config.optim.epochs >= len(state["history"]):
        changed = [line for line in changed if not line.startswith("optim.epochs ")]
    if changed:
        raise InputError(
            f"{path}: can't resume with other settings than it was started with ({'; '.join(changed)}); "
            f"take the old ones, or another run.name"
        )
    return state
