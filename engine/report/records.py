"""Data of a report, and formatting of its numbers: plain frozen records that every task fills in the same way."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Interval = tuple[float, float]
"""Lower and upper end of a confidence interval."""

Direction = Literal["higher", "lower", "neither"]
ARROWS: dict[Direction, str] = {"higher": " ↑", "lower": " ↓", "neither": ""}
"""Direction that is better -> its sign after a name."""

Verdict = Literal["better", "worse", ""]

GROUP_ORDER = ("accuracy", "cost", "speed")
MISSING = "—"

UNFINISHED = "unfinished"
"""Name of the fact that a run was meant to be trained for more epochs."""

CONTROL = "control"
"""Name of the fact that a run's flows make no step: it lacks what the others' blocks and flows add."""


OVERRIDDEN, OTHER_DATA = "evaluated with", "evaluated on"
"""Names of the facts that a run was evaluated with other settings, or on other data, than it was trained with."""

TASK = "task"
"""Name of the fact which task a report is of."""

UNSTATED = "settings of this evaluation alone"
"""Name of the fact of those among them that no other fact shows."""


@dataclass(frozen=True)
class Quantity:
    """One number of a report.

    Args:
        name: What was measured, e.g. ``"AP50"`` or ``"latency median"``.
        value: The number, or ``None`` where it is undefined or was not measured.
        unit: Unit of the number, e.g. ``"ms"``, ``"MiB"``, ``"M"`` or ``"GMAC"``; empty for a pure number.
        better: Direction that is better.
        group: Table that shows the number: ``"accuracy"``, ``"cost"`` or ``"speed"``.
        interval: 95 % confidence interval, where it was measured.
    """

    name: str
    value: float | None
    unit: str = ""
    better: Direction = "neither"
    group: str = "accuracy"
    interval: Interval | None = None

    @property
    def label(self) -> str:
        """The name with its unit, as in a table's row: ``"latency median [ms]"``."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


@dataclass(frozen=True)
class Curve:
    """A polyline ``y(x)``, or bars; curves with the same title share a plot, distinguished by their labels."""

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str = ""
    bars: bool = False


@dataclass(frozen=True)
class Point:
    """The figures of a run's weights under one solver, for plots of accuracy over cost.

    Args:
        solver: The method.
        steps: Steps of every ODE block, or one number for each; None for a method that finds its steps.
        tolerance: Tolerance of a method that finds its steps.
        figures: Label of a figure, as :attr:`Quantity.label` -> its value.
    """

    solver: str
    steps: int | tuple[int, ...] | None
    tolerance: float | None
    figures: dict[str, float]

    @property
    def setting(self) -> str:
        """Steps or tolerance, as text."""
        if self.steps is None:
            return f"{self.tolerance:g}"
        return str(self.steps) if isinstance(self.steps, int) else "-".join(map(str, self.steps))


@dataclass(frozen=True)
class Compared:
    """A cell of a comparison: a run's value, its ratio to the first run's, which is better, and its interval."""

    value: float | None
    ratio: float | None = None
    verdict: Verdict = ""
    interval: Interval | None = None


Cell = str | float | None | Compared


@dataclass(frozen=True)
class Table:
    """A table: every row holds one cell per column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r} has {len(self.columns)} columns, but a row of {len(row)}: {row}"
                )


@dataclass(frozen=True)
class Section:
    """A titled list of sentences."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A PNG, written to ``pictures/NAME.png`` and embedded in the HTML; those with the same ``row`` share a line."""

    name: str
    caption: str
    png: bytes = field(repr=False)
    row: str = ""

    def __post_init__(self) -> None:
        if slug(self.name) != self.name:
            raise ValueError(f"picture name {self.name!r} is no file name; use letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class Resamples:
    """Figures of a report in resamples of its images, which are the same for all reports on the same images.

    Args:
        digest: Digest of the images' names, in order.
        images: Number of images.
        values: Label of a quantity -> its value on all images.
        figures: Label -> its value in each resample; NaN where it has none.
        seeds: Label -> its value with each seed, where a report stands for several trainings.
    """

    digest: str
    images: int
    values: Mapping[str, float]
    figures: Mapping[str, np.ndarray]
    seeds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Report on one run, or on one comparison of runs.

    Args:
        name: The run's name.
        title: The headline.
        facts: How the numbers came about: device, threads, date, command, data set, protocol, model, solver.
        quantities: The numbers; one table per group.
        curves: The curves; one plot per title.
        tables: Further tables, e.g. one row per class.
        pictures: Example pictures.
        notes: Notes that a reader must know, e.g. ``"latency on cpu: no CUDA device here"``.
        sections: Lists of findings in plain language, e.g. where a run loses.
        front: Labels of the figures of accuracy that are drawn over the cost, the most telling first.
        points: The same weights under other solvers.
        headline: Pictures to be seen first.
        resamples: The figures of accuracy in resamples of the images.
    """

    name: str
    title: str
    facts: dict[str, str]
    quantities: tuple[Quantity, ...]
    curves: tuple[Curve, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    front: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    headline: tuple[Picture, ...] = ()
    resamples: Resamples | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        names = [picture.name for picture in (*self.headline, *self.pictures)]
        if len(set(names)) != len(names):
            raise ValueError(f"each picture of a report needs a name of its own, got {sorted(names)}")


def slug(text: str) -> str:
    """Turn any text into a file name of letters, digits, ``.``, ``_`` and ``-``; empty text becomes ``"unnamed"``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def ordered_groups(quantities: tuple[Quantity, ...]) -> list[str]:
    """List the groups that occur: accuracy, cost, speed, then the others in order of appearance."""
    found = dict.fromkeys(quantity.group for quantity in quantities)
    return [group for group in GROUP_ORDER if group in found] + [group for group in found if group not in GROUP_ORDER]


def quantity_tables(quantities: tuple[Quantity, ...]) -> Iterator[Table]:
    """Lay out the quantities as one table per group, with their units and the direction that is better."""
    arrows = {"higher": "higher", "lower": "lower", "neither": ""}
    for group in ordered_groups(quantities):
        members = [quantity for quantity in quantities if quantity.group == group]
        columns = ("quantity", "value", "95 % interval", "better")
        rows = tuple((q.label, q.value, format_interval(q.interval), arrows[q.better]) for q in members)
        if not any(row[2] for row in rows):
            columns, rows = (columns[0], columns[1], columns[3]), tuple((row[0], row[1], row[3]) for row in rows)
        yield Table(group.capitalize(), columns, rows)


def format_number(value: float | None) -> str:
    """Format a number for reading.

    Counts (``int``) get thousands separators; a ``float`` gets 3 significant digits below 1, 4 from 1 to 1000 and
    thousands separators above; ``None`` and non-finite numbers become a dash.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if isinstance(value, int) or abs(value) >= 999.95:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if abs(value) < 0.9995 else f"{value:#.4g}"


def format_interval(interval: Interval | None) -> str:
    """Format an interval: ``0.501 to 0.566``; empty if there is none, or it has no ends."""
    if interval is None or not all(map(math.isfinite, interval)):
        return ""
    return " to ".join(map(format_number, interval))


def format_estimate(value: float | None, interval: Interval | None) -> str:
    """Format a number with its interval, if it has one: ``0.534 [0.501, 0.566]``."""
    text = format_number(value)
    if value is None or interval is None:
        return text
    return f"{text} [{format_number(interval[0])}, {format_number(interval[1])}]"


def format_cell(cell: Cell) -> str:
    """Format a table's cell as plain text: text as it is, numbers by ``format_number``, comparisons as 0.53 (0.42x)."""
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Compared):
        return format_number(cell)
    text = format_estimate(cell.value, cell.interval)
    if cell.ratio is None:
        return text
    ratio = f"{cell.ratio:.2f}" if cell.ratio >= 0.1 else f"{cell.ratio:.2g}"
    return f"{text} ({ratio}x)"


def model_label(name: str, arguments: Mapping[str, Any]) -> str:
    """Format a model with its arguments, for a report: ``ode_resnet34(steps=4)``."""
    given = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"{name}({given})" if given else name
