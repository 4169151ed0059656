"""Placing of small labels beside points in a plot, without overlaps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT_SIZE = 7
"""Font size of the labels [pt]."""

CHARACTER = 0.62
"""Width of a character, in units of the font size."""

OFFSETS = ((4, 3), (4, -9), (-4, 3), (-4, -9), (0, 9), (0, -15))
"""Places of a label about its point, in the order of preference [pt]; left of the point it ends there."""


class Label(NamedTuple):
    """A label to place: its point in data coordinates, its text and its color."""

    at: tuple[float, float]
    text: str
    color: str


class Box(NamedTuple):
    """A rectangle [pt]."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Box") -> bool:
        """Whether the rectangles have common points."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )


def place_labels(panel: "Axes", labels: Sequence[Label]) -> None:
    """Write the labels where there is room; those without any are left out.

    The limits of the axes and the layout of the figure must be final.
    """
    points_per_pixel = 72 / panel.get_figure(root=True).dpi  # pyright: ignore[reportOptionalMemberAccess]
    frame = panel.get_window_extent()
    taken: list[Box] = []
    for at, text, color in labels:
        x, y = (value * points_per_pixel for value in panel.transData.transform(at))
        for dx, dy in OFFSETS:
            box = text_box(x + dx, y + dy, text, ends=dx < 0)
            inside = box.right <= frame.x1 * points_per_pixel and box.left >= frame.x0 * points_per_pixel
            if inside and not any(box.meets(other) for other in taken):
                taken.append(box)
                panel.annotate(
                    text,
                    at,
                    xytext=(dx, dy),
                    textcoords="offset points",
                    fontsize=FONT_SIZE,
                    color=color,
                    ha="right" if dx < 0 else "left",
                    parse_math=False,
                    bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
                )
                break


def text_box(x: float, y: float, text: str, *, ends: bool) -> Box:
    """Return the rectangle of a text that begins, or ends, at x, with its baseline at y."""
    width = CHARACTER * FONT_SIZE * len(text)
    left = x - width if ends else x
    return Box(left, y - 1, left + width, y + FONT_SIZE)
