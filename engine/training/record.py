"""Record of a training run for its report: the log as curves and figures, the settings as facts."""

import csv
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from engine.log import History
from engine.report.records import UNFINISHED, Curve, Quantity
from engine.training.settings import PRETRAINED, flatten_settings, is_among

SECONDS_A_MINUTE = 60

TOLD = ("run", "eval", "model.backbone", "model.backbone_args", "model.pretrained", "model.checkpoint")
"""Settings, and groups of them, that a report shows elsewhere."""


def read_history(path: Path) -> History:
    """Read the rows of a run's ``log.csv``, each without its empty columns; no rows if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def sum_columns(prefix: str) -> Callable[[Mapping[str, float]], float | None]:
    """Return a function that sums the columns of a row with this prefix, or gives None if there are none."""

    def value(row: Mapping[str, float]) -> float | None:
        found = [number for name, number in row.items() if name.startswith(prefix)]
        return sum(found) if found else None

    return value


def training_curves(history: History, *, monitor: str) -> tuple[Curve, ...]:
    """Return curves of the loss, the metric that picks the best epoch, and the ODE blocks' evaluations over the epochs.

    Evaluations that stay the same throughout get no curve.
    """
    evaluations = sum_columns("nfe/")
    followed: dict[str, Callable[[Mapping[str, float]], float | None]] = {
        "loss": sum_columns("loss"),
        monitor: lambda row: row.get(monitor),
        **({"NFE": evaluations} if len({evaluations(row) for row in history}) > 1 else {}),
    }
    curves = []
    for name, value in followed.items():
        points = [(row["epoch"], y) for row in history if (y := value(row)) is not None]
        if len(points) > 1:
            x, y = zip(*points, strict=True)
            curves.append(Curve(f"Training: {name}", "epoch", name, x, y))
    return tuple(curves)


def training_quantities(history: History) -> tuple[Quantity, ...]:
    """Return how long the epochs took, without evaluations."""
    if not history:
        return ()
    minutes = sum(row["seconds"] for row in history) / SECONDS_A_MINUTE
    return (Quantity("training time", minutes, "min", group="cost"),)


def training_facts(
    content: Mapping[str, Any], defaults: Mapping[str, Any], *, free: Collection[str], epochs: int
) -> dict[str, str]:
    """Describe which weights a checkpoint has, and the settings that they depend on, other than the defaults.

    Args:
        content: Content of the checkpoint.
        defaults: Defaults of its task's configuration.
        free: Settings and groups that the weights do not depend on.
        epochs: Number of epochs that the run has been trained for; 0 if unknown.
    """
    config, last = content["config"], content["config"]["optim"]["epochs"]
    epoch = content["epoch"] if "epoch" in content else len(content["history"])
    kind = "moving average" if config["optim"]["ema_decay"] else "weights"
    when = f"within epoch {epoch + 1}" if content.get("progress") else f"after epoch {epoch}"
    facts = {"weights": f"{kind} {when} of {last}", "seed": str(config["run"]["seed"])}
    if "precision" in content:
        facts["trained in"] = content["precision"]
        free = (*free, "optim.amp")
    if 0 < epochs < last:
        facts[UNFINISHED] = f"trained for {epochs} of {last} epochs"
    return {**facts, **start_facts(config["model"]), **changed_settings(config, defaults, free=free)}


def start_facts(model: Mapping[str, Any]) -> dict[str, str]:
    """Say which weights a model started from; weights matched by name leave a record of their own."""
    if model.get("checkpoint"):
        return {"checkpoint": model["checkpoint"]}
    return {PRETRAINED: "timm's weights"} if model.get("pretrained") is True else {}


def changed_settings(
    config: Mapping[str, Any], defaults: Mapping[str, Any], *, free: Collection[str]
) -> dict[str, str]:
    """Return group of settings -> its settings that the weights depend on and that differ from the defaults.

    Those of the model are called model settings, as the model itself is another fact.
    """
    usual, changed = dict(flatten_settings(defaults)), defaultdict[str, list[str]](list)
    for name, value in flatten_settings(config):
        group, rest = name.split(".", 1)
        if not is_among(name, (*TOLD, *free)) and usual.get(name) != value:
            changed[group].append(f"{rest}={value}")
    titles = {"model": "model settings"}
    return {titles.get(group, group): ", ".join(settings) for group, settings in changed.items()}
