"""Pictures of accuracy over cost: runs, and the same weights under other solvers, as points and lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from engine.report.labels import Label, place_labels
from engine.report.plots import COLORS, LINE_STYLES, figure_png
from engine.report.records import ARROWS, Interval, Picture, Point, Quantity, Report
from engine.report.verdicts import unlike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIME = "latency"
"""Name of the picture whose cost is a time."""

COSTS = {
    "latency median [ms]": TIME,
    "parameters": "parameters",
    "training memory": "training-memory",
    "NFE": "nfe",
}
"""Beginning of the label of a cost -> name of its picture, in the order of the pictures."""

PANEL = (4.6, 3.6)
"""Width and height of a panel [inch]."""

OWN_MARKERS = "*DsP^vXph"
"""Markers of runs under their own solvers; of another number than the colors, so that pairs of both differ."""

OWN_SIZES = (15, 12, 10, 8)
"""Sizes of these markers: later runs are smaller, and are seen on top of equal ones."""

MARGIN = 0.03
"""Room left of points at or near 0, in units of the axis."""

LEAST_SPAN = 0.02
"""Least height of an axis of accuracy, in units of its largest value, so that noise looks like noise."""


@dataclass(frozen=True)
class Series:
    """Points of one run under one solver, or a run's own point.

    Attributes:
        run: Number of the run.
        label: Text in the legend.
        solver: The solver; empty for the run's own point.
        points: The points.
        intervals: For the run's own point: label of a figure -> its interval.
    """

    run: int
    label: str
    solver: str
    points: tuple[Point, ...]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


def front_pictures(reports: Sequence[Report], runs: Sequence[str]) -> tuple[Picture, ...]:
    """Draw the figures of ``front`` over every cost that tells the points apart; nothing if there is only one point.

    Runs whose accuracy, or whose speed in the picture of it, can't be compared with the first run's are left out.

    Args:
        reports: Reports of the runs.
        runs: Names of the runs.
    """
    alike = [i for i, report in enumerate(reports) if not unlike("accuracy", (reports[0], report))]
    known = {quantity.label: quantity for i in alike for quantity in reports[i].quantities}
    common = [label for label in reports[0].front if all(label in reports[i].front for i in alike)]
    shown = [known[label] for label in common if label in known]
    series = [each for i in alike for each in run_series(i, reports[i], runs[i])]
    points = [point for each in series for point in each.points]
    if len(points) < 2 or not shown:
        return ()
    pictures = []
    for label, name in cost_labels(points).items():
        is_time = name == TIME
        drawn = [each for each in series if not (is_time and unlike("speed", (reports[0], reports[each.run])))]
        if len({point.figures.get(label) for each in drawn for point in each.points}) > 1:
            left_out = [run for i, run in enumerate(runs) if i not in {each.run for each in drawn}]
            reason = f"; without {', '.join(left_out)}, not measured alike" if left_out else ""
            pictures.append(
                Picture(f"accuracy-over-{name}", f"Accuracy over {label}{reason}", draw(drawn, label, shown))
            )
    return tuple(pictures)


def run_series(number: int, report: Report, run: str) -> list[Series]:
    """Return the series of a run: its own point, and one for each solver that it was tried with."""
    figures = {quantity.label: quantity.value for quantity in report.quantities if quantity.value is not None}
    intervals = {quantity.label: quantity.interval for quantity in report.quantities if quantity.interval is not None}
    own = Series(number, run, "", (Point("trained", None, 0.0, figures),), intervals)
    costs = {q.label: figures[q.label] for q in report.quantities if q.group == "cost" and q.label in figures}
    points = [
        replace(point, figures=costs | point.figures) for point in report.points
    ]  # accuracy and speed are its own
    tried = groupby(points, key=lambda point: point.solver)
    return [own, *(Series(number, f"{run}: {solver}", solver, tuple(points)) for solver, points in tried)]


def cost_labels(points: Sequence[Point]) -> dict[str, str]:
    """Return the costs that all points have, label -> name of the picture, in the order of :data:`COSTS`."""
    common = [label for label in points[0].figures if all(label in point.figures for point in points)]
    return {
        label: name for cost, name in COSTS.items() for label in common if label == cost or label.startswith(f"{cost},")
    }


def draw(series: Sequence[Series], cost: str, shown: Sequence[Quantity]) -> bytes:
    """Draw a panel for each figure over one cost, with a common legend."""
    from matplotlib.figure import Figure  # imported only when used, as it takes half a second

    figure = Figure(figsize=(PANEL[0] * len(shown), PANEL[1] + 0.5), layout="constrained")
    panels: Any = figure.subplots(1, len(shown), squeeze=False)[0]
    labels = [draw_panel(panel, series, cost, quantity) for panel, quantity in zip(panels, shown, strict=True)]
    handles, names = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.draw_without_rendering()  # the layout, on which the room for labels depends
    for panel, found in zip(panels, labels, strict=True):
        place_labels(panel, found)
    return figure_png(figure)


def draw_panel(panel: "Axes", series: Sequence[Series], cost: str, quantity: Quantity) -> list[Label]:
    """Draw all series; return the labels of their points."""
    solvers = list(dict.fromkeys(each.solver for each in series if each.solver))
    labels = []
    for each in series:
        found = [p for p in each.points if quantity.label in p.figures]
        found.sort(key=lambda point: point.figures[cost])
        x, y = ([point.figures[label] for point in found] for label in (cost, quantity.label))
        color = COLORS[each.run % len(COLORS)]
        if not each.solver:
            draw_own(panel, each, x, y, quantity.label)
            continue
        style = LINE_STYLES[solvers.index(each.solver) % len(LINE_STYLES)]
        panel.plot(x, y, style, marker="o", markersize=4, linewidth=1.5, color=color, label=each.label, clip_on=False)
        labels += [Label((a, b), point.setting, color) for a, b, point in zip(x, y, found, strict=True)]
    finish(panel, cost, quantity)
    return labels


def draw_own(panel: "Axes", each: Series, x: Sequence[float], y: Sequence[float], label: str) -> None:
    """Draw a run under its own solver, with the interval of its accuracy."""
    color, marker = COLORS[each.run % len(COLORS)], OWN_MARKERS[each.run % len(OWN_MARKERS)]
    size = OWN_SIZES[min(each.run, len(OWN_SIZES) - 1)]
    panel.plot(
        x,
        y,
        marker,
        color=color,
        markersize=size,
        markeredgecolor="white",
        label=each.label,
        clip_on=False,
        zorder=3 + each.run / 100,
    )
    if y and label in each.intervals:
        low, high = each.intervals[label]
        panel.vlines(x, low, high, color=color, linewidth=1, alpha=0.6)


def finish(panel: "Axes", cost: str, quantity: Quantity) -> None:
    """Label the axes and set their limits."""
    from matplotlib.ticker import EngFormatter

    panel.set_xlabel(cost, parse_math=False)
    panel.set_ylabel(f"{quantity.label}{ARROWS[quantity.better]}", parse_math=False)
    panel.margins(x=0.1, y=0.08)
    left, right = panel.get_xlim()
    panel.set_xlim(left=-MARGIN * right if left < 0 else 0)  # a point at 0 is seen beside the axis, with its interval
    low, high = panel.get_ylim()
    if (lacking := LEAST_SPAN * max(abs(low), abs(high)) - (high - low)) > 0:
        panel.set_ylim(low - lacking / 2, high + lacking / 2)
    panel.ticklabel_format(axis="y", useOffset=False, style="plain")
    if cost == "parameters":
        panel.xaxis.set_major_formatter(EngFormatter())
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
