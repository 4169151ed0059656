"""The picture of accuracy over cost: runs, and the same weights under other solvers, as points and lines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from engine.report.plots import COLORS, LINE_STYLES, figure_png
from engine.report.records import Picture, Point, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = ("latency median [ms]", "parameters", "training memory", "NFE")
"""Beginnings of the labels of the costs, in the order of the columns."""

PANEL = (4.2, 3.4)
"""Width and height of a panel [inch]."""

CLOSE = 0.08
"""Distance of points that share a label, in units of what is shown."""

OWN_MARKERS = "*DsP^vXph"
"""Markers of runs under their own solvers; of another number than the colors, so that pairs of both differ."""


@dataclass(frozen=True)
class Series:
    """Points of one run under one solver, or a run's own point."""

    run: int
    label: str
    points: tuple[Point, ...]
    is_own: bool


def front_pictures(reports: Sequence[Report], runs: Sequence[str]) -> tuple[Picture, ...]:
    """Draw the figures of ``front`` over every cost that tells the points apart; nothing if there is only one point.

    Args:
        reports: Reports of the runs.
        runs: Names of the runs.
    """
    series = [each for i, report in enumerate(reports) for each in run_series(i, report, runs[i])]
    points = [point for each in series for point in each.points]
    labels = [label for label in reports[0].front if all(label in report.front for report in reports)]
    costs = [cost for cost in cost_labels(points) if len({point.figures.get(cost) for point in points}) > 1]
    if len(points) < 2 or not labels or not costs:
        return ()
    from matplotlib.figure import Figure  # imported only when used, as it takes half a second

    figure = Figure(figsize=(PANEL[0] * len(costs), PANEL[1] * len(labels) + 0.6), layout="constrained")
    axes: Any = figure.subplots(len(labels), len(costs), squeeze=False)
    for label, row in zip(labels, axes, strict=True):
        for cost, panel in zip(costs, row, strict=True):
            draw_panel(panel, series, cost, label)
    handles, names = axes[0][0].get_legend_handles_labels()
    legend = figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    caption = "Accuracy over cost; the numbers are steps or tolerances of solvers that the weights were tried with"
    return (Picture("accuracy-over-cost", caption, figure_png(figure)),)


def run_series(number: int, report: Report, run: str) -> list[Series]:
    """Return the series of a run: its own point, and one for each solver that it was tried with."""
    figures = {quantity.label: quantity.value for quantity in report.quantities if quantity.value is not None}
    own = Series(number, run, (Point("trained", None, 0.0, figures),), is_own=True)
    points = [replace(point, figures=figures | point.figures) for point in report.points]
    tried = groupby(points, key=lambda point: point.solver)
    return [own, *(Series(number, f"{run}: {solver}", tuple(points), is_own=False) for solver, points in tried)]


def cost_labels(points: Sequence[Point]) -> list[str]:
    """Return the labels of the costs that all points have, in the order of :data:`COSTS`."""
    common = [label for label in points[0].figures if all(label in point.figures for point in points)]
    return [label for cost in COSTS for label in common if label == cost or label.startswith(f"{cost},")]


def draw_panel(panel: "Axes", series: Sequence[Series], cost: str, label: str) -> None:
    """Draw all series over one cost."""
    from matplotlib.ticker import EngFormatter

    shown = [(p.figures[cost], p.figures[label]) for each in series for p in each.points if label in p.figures]
    span = max(x for x, _ in shown), max(y for _, y in shown) - min(y for _, y in shown)
    solvers = list(dict.fromkeys(each.label.split(": ")[-1] for each in series if not each.is_own))
    for each in series:
        found = sorted((p for p in each.points if label in p.figures), key=lambda point: point.figures[cost])
        x, y = [point.figures[cost] for point in found], [point.figures[label] for point in found]
        color = COLORS[each.run % len(COLORS)]
        if each.is_own:
            marker = OWN_MARKERS[each.run % len(OWN_MARKERS)]
            own = {"markersize": 10, "markeredgecolor": "white", "zorder": 3}
            panel.plot(x, y, marker, color=color, label=each.label, clip_on=False, **own)
            continue
        style = LINE_STYLES[solvers.index(each.label.split(": ")[-1]) % len(LINE_STYLES)]
        panel.plot(x, y, style, marker="o", markersize=4, linewidth=1.5, color=color, label=each.label, clip_on=False)
        for at, text in point_labels(x, y, [point.setting for point in found], span=span):
            panel.annotate(
                text, at, xytext=(4, 3), textcoords="offset points", fontsize=7, color=color, parse_math=False
            )
    panel.set_xlabel(cost, parse_math=False)
    panel.set_ylabel(label, parse_math=False)
    panel.margins(x=0.1)
    panel.set_xlim(left=0)
    if cost == "parameters":
        panel.xaxis.set_major_formatter(EngFormatter())
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def point_labels(
    x: Sequence[float], y: Sequence[float], texts: Sequence[str], *, span: tuple[float, float]
) -> list[tuple[tuple[float, float], str]]:
    """Return the place and the text of every label along a line; points that lie close together share one.

    Args:
        x: Ascending.
        y: As many.
        texts: Labels of the points.
        span: Width and height of all that is shown.
    """
    found: list[tuple[tuple[float, float], str]] = []
    for at, text in zip(zip(x, y, strict=True), texts, strict=True):
        if found and all(abs(a - b) <= CLOSE * s for a, b, s in zip(at, found[-1][0], span, strict=True)):
            found[-1] = (found[-1][0], f"{found[-1][1]}, {text}")
        else:
            found.append((at, text))
    return found
