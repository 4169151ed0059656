"""Checks of all boxes together for a convention other than the expected one, before boxes are repaired singly."""

from collections.abc import Sequence

from detection.data.boxes import Box
from odebackbones.errors import InputError

Sized = tuple[Box, tuple[int, int]]
"""A box's corners, and the width and height of its image [px]."""

MOST = 0.5
"""Share of the boxes above which the convention differs, rather than some boxes being wrong."""

TELLING = 4
"""Smallest number of boxes that can show a convention by their place or size; fewer may just be wrong."""

INSIDE = 0.5
"""Share of a box's area in its image, below which the box lies mostly outside."""

EXPECTED = {
    "coco": "[x, y, width, height] in pixels",
    "voc": "xmin, ymin, xmax, ymax in pixels",
    "kitti": "left, top, right, bottom in pixels",
}
"""Data format -> convention of its boxes."""


def require_pixels(source: str, boxes: Sequence[Sized], *, form: str) -> None:
    """Refuse boxes that are fractions of the image, lie mostly beyond it, or fit into it only if read as corners.

    Raises:
        InputError: More than half of the boxes disagree; the message says what is expected.
    """
    if not boxes:
        return
    fractions = sum(max(map(abs, box)) <= 1.0 for box, _ in boxes)
    if fractions > MOST * len(boxes):
        raise InputError(
            f"{source}: {percent(fractions, boxes)} of the {len(boxes)} boxes have no number above 1, as fractions of "
            f"the image have; expected {EXPECTED[form]}: multiply by the image's width and height"
        )
    if len(boxes) < TELLING:
        return
    for share, how in ((INSIDE, "mostly"), (1.0, "partly")):
        beyond = [(box, size) for box, size in boxes if share_inside(box, size) < share]
        if len(beyond) > MOST * len(boxes) and (how == "mostly" or all_fit(boxes, form)):
            hint = AS_CORNERS if all_fit(boxes, form) else "are the images resized?"
            raise InputError(
                f"{source}: {percent(len(beyond), boxes)} of the {len(boxes)} boxes lie {how} beyond their image; "
                f"expected {EXPECTED[form]}: {hint}"
            )


AS_CORNERS = "they fit if read as x1, y1, x2, y2"


def all_fit(boxes: Sequence[Sized], form: str) -> bool:
    """Whether the boxes are COCO's and all fit into their images if their numbers are read as corners."""
    return form == "coco" and all(fits_as_corners(box, size) for box, size in boxes)


def require_agreement(source: str, pairs: Sequence[tuple[Box, Box]]) -> int:
    """Count the boxes that contradict their segmentation; refuse the data set if most do.

    Args:
        source: The data set's name.
        pairs: Pairs of a box and the box around its segmentation, as corners.

    Raises:
        InputError: Most boxes contradict their segmentation.
    """
    apart = [box for box, around in pairs if overlap(box, around) < 0.5]
    if len(pairs) >= TELLING and len(apart) > MOST * len(pairs):
        corners = sum(overlap(as_corners(box), around) > 0.9 for box, around in pairs)
        hint = "; they agree if read as x1, y1, x2, y2" if corners > MOST * len(pairs) else ""
        raise InputError(
            f"{source}: {percent(len(apart), pairs)} of the {len(pairs)} boxes contradict the polygons beside them; "
            f"expected bbox {EXPECTED['coco']}{hint}"
        )
    return len(apart)


def require_areas(source: str, boxes: Sequence[tuple[Box, float]]) -> None:
    """Refuse boxes whose areas are right only if their numbers are read as corners.

    Args:
        source: The data set's name.
        boxes: Boxes as corners, each with the area given in its annotation [px^2].

    Raises:
        InputError: Most areas are right only in that reading.
    """
    corners = sum(is_near(area(as_corners(box)), given) and not is_near(area(box), given) for box, given in boxes)
    if len(boxes) >= TELLING and corners > MOST * len(boxes):
        raise InputError(
            f"{source}: {percent(corners, boxes)} of the {len(boxes)} boxes have an area that is theirs if read as "
            f"x1, y1, x2, y2; expected bbox {EXPECTED['coco']}"
        )


def is_near(found: float, expected: float) -> bool:
    """Whether two areas are equal up to rounding."""
    return abs(found - expected) <= 0.01 * expected


def percent(part: int, whole: Sequence[object]) -> str:
    """Format a share in whole percent."""
    return f"{100 * part / len(whole):.0f} %"


def as_corners(box: Box) -> Box:
    """Read as x1, y1, x2, y2 the numbers that were read as x, y, width, height."""
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def fits_as_corners(box: Box, size: tuple[int, int]) -> bool:
    """Whether a box lies in the image if its numbers are read as corners."""
    x1, y1, x2, y2 = as_corners(box)
    return 0 <= x1 < x2 <= size[0] + 1 and 0 <= y1 < y2 <= size[1] + 1


def share_inside(box: Box, size: tuple[int, int]) -> float:
    """Return the share of a box's area that is in its image; 1 for a box without area."""
    return intersection(box, (0.0, 0.0, float(size[0]), float(size[1]))) / area(box) if area(box) > 0 else 1.0


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes."""
    common = intersection(a, b)
    union = area(a) + area(b) - common
    return common / union if union > 0 else 0.0


def intersection(a: Box, b: Box) -> float:
    """Return the area of two boxes' intersection."""
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def area(box: Box) -> float:
    """Return a box's area; 0 if a side is negative."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
