"""How a run went: its log as curves and figures of its report, its settings as facts."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from odebackbones.engine.log import History
from odebackbones.engine.report import Curve, Quantity

SECONDS_A_MINUTE = 60

TRAINED_BY = ("optim", "loss", "distillation")
"""Groups of settings that the weights depend on."""

UNFINISHED = "unfinished"
"""The fact that there were to be more epochs."""


def read_history(path: Path) -> History:
    """The rows of a run's ``log.csv``, each without the columns that are empty in it; none without the file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def summed(prefix: str) -> Callable[[Mapping[str, float]], float | None]:
    """The sum of a row's columns that begin so, if there are any."""

    def value(row: Mapping[str, float]) -> float | None:
        found = [number for name, number in row.items() if name.startswith(prefix)]
        return sum(found) if found else None

    return value


def training_curves(history: History, *, monitor: str) -> tuple[Curve, ...]:
    """The loss, the metric that picks the best epoch, and the evaluations of the ODE blocks, over the epochs.

    Evaluations that stay the same throughout are no curve.
    """
    followed: dict[str, Callable[[Mapping[str, float]], float | None]] = {
        "loss": summed("loss"),
        monitor: lambda row: row.get(monitor),
        "NFE": summed("nfe/"),
    }
    curves = []
    for name, value in followed.items():
        points = [(row["epoch"], y) for row in history if (y := value(row)) is not None]
        x, y = zip(*points, strict=True) if points else ((), ())
        if len(points) > 1 and (name != "NFE" or len(set(y)) > 1):
            curves.append(Curve(f"Training: {name}", "epoch", name, x, y))
    return tuple(curves)


def training_quantities(history: History) -> tuple[Quantity, ...]:
    """How long the epochs took, without evaluations."""
    if not history:
        return ()
    minutes = sum(row["seconds"] for row in history) / SECONDS_A_MINUTE
    return (Quantity("training time", minutes, "min", group="cost"),)


def training_facts(content: Mapping[str, Any], defaults: Mapping[str, Any], *, epochs: int) -> dict[str, str]:
    """Which weights a checkpoint has, and the settings that they depend on, other than the defaults.

    Args:
        content: The checkpoint's.
        defaults: Of its task's configuration.
        epochs: How many the run has been trained for; 0 if that is not known.
    """
    config, last = content["config"], content["config"]["optim"]["epochs"]
    epoch = content["epoch"] if "epoch" in content else len(content["history"])
    kind = "moving average" if config["optim"]["ema_decay"] else "weights"
    facts = {"weights": f"{kind} after epoch {epoch} of {last}", "seed": str(config["run"]["seed"])}
    if 0 < epochs < last:
        facts[UNFINISHED] = f"trained for {epochs} of {last} epochs"
    for group in TRAINED_BY:
        settings = config.get(group, {}).items()
        changed = [f"{name}={value}" for name, value in settings if value != defaults[group].get(name)]
        if changed:
            facts[group] = ", ".join(changed)
    return {**facts, "augment": config["data"]["augment"]}
