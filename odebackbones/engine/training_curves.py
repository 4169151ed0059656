"""How a run went: its log as curves and figures of its report."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

from odebackbones.engine.log import History
from odebackbones.engine.report import Curve, Quantity

SECONDS_A_MINUTE = 60


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
    """The loss, the metric that picks the best epoch, and the evaluations of the ODE blocks, over the epochs."""
    followed: dict[str, Callable[[Mapping[str, float]], float | None]] = {
        "loss": summed("loss"),
        monitor: lambda row: row.get(monitor),
        "NFE": summed("nfe/"),
    }
    curves = []
    for name, value in followed.items():
        points = [(row["epoch"], y) for row in history if (y := value(row)) is not None]
        if len(points) > 1:
            x, y = zip(*points, strict=True)
            curves.append(Curve(f"Training: {name}", "epoch", name, x, y))
    return tuple(curves)


def training_quantities(history: History) -> tuple[Quantity, ...]:
    """How long the epochs took, without evaluations."""
    if not history:
        return ()
    minutes = sum(row["seconds"] for row in history) / SECONDS_A_MINUTE
    return (Quantity("training time", minutes, "min", group="cost"),)
