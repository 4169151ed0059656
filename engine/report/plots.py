"""Plots of the reports: curves drawn by matplotlib's object interface (no global state), as PNG bytes."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.report.records import Curve, Picture, slug

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): distinguishable with any kind of color vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")

MAX_MARKED_POINTS = 20
"""Largest number of points for which a curve gets markers: a single point has no line."""


def curve_pictures(curves: Sequence[Curve]) -> tuple[Picture, ...]:
    """Draw the curves, one picture per title, in order of first appearance."""
    titles = dict.fromkeys(curve.title for curve in curves)
    return tuple(
        Picture(f"curve-{number}-{slug(title)}", title, plot_curves([c for c in curves if c.title == title]))
        for number, title in enumerate(titles, start=1)
    )


def plot_curves(curves: Sequence[Curve]) -> bytes:
    """Draw curves on common axes, with a legend where they have labels.

    Args:
        curves: At least one curve; the first one's title and axis labels are used.
    """
    from matplotlib.figure import Figure  # imported only when used, as it takes half a second

    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    lines = [_draw(axes, curve, index) for index, curve in enumerate(curves)]
    _label(axes, curves[0])
    if any(curve.label for curve in curves):
        legend = axes.legend(lines, [curve.label.lstrip("_") for curve in curves], frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure_png(figure)


def figure_png(figure: "Figure") -> bytes:
    """Render a figure to PNG bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: "Axes", curve: Curve, index: int) -> "Artist":
    """Draw a line, or bars; lines cycle through the colors, with a new line style after each cycle."""
    color = COLORS[index % len(COLORS)]
    style = LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)]
    if curve.bars:
        return axes.vlines(curve.x, 0, curve.y, color=color, linewidth=6, alpha=0.7)
    marker = "o" if len(curve.x) <= MAX_MARKED_POINTS else ""
    (line,) = axes.plot(curve.x, curve.y, color=color, linestyle=style, linewidth=1.8, marker=marker, markersize=4)
    return line


def _label(axes: "Axes", curve: Curve) -> None:
    axes.set_title(curve.title, loc="left", fontsize=10, fontweight="bold", parse_math=False)
    axes.set_xlabel(curve.x_label, parse_math=False)
    axes.set_ylabel(curve.y_label, parse_math=False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
