"""Checks and repairs of one box."""

import math
from collections.abc import Sequence

from detection.data.problems import ProblemLog
from odebackbones.errors import InputError

Box = tuple[float, float, float, float]

CLIP_TOLERANCE_PX = 1.0
"""Boxes that cross the border by no more are clipped silently: rounding, and 0-based or 1-based corners."""

AREA_SHARES = (0.01, 1.05)
"""Bounds on the ratio of an object's area to its box's: even a thin diagonal object has more than the lower one."""

MIN_EXTENT_PX = 1e-3
"""Length below which a side counts as zero: float32 cannot resolve it at image coordinates."""


def finite_number(value: object, where: str) -> float:
    """Read a number from a file.

    Args:
        value: A number or its text.
        where: File and entry, for error messages.
    """
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: expected a finite number, got {value!r}; correct or remove the entry")
    return number


def box_numbers(values: object, where: str) -> Box:
    """Read a box's four numbers, in the file's own convention."""
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 4:
        turned = (
            " (a rotated box? give the upright one around it)" if isinstance(values, list) and len(values) == 5 else ""
        )
        raise InputError(f"{where}: a box must be 4 numbers, got {values!r}{turned}; correct or remove the entry")
    a, b, c, d = (finite_number(value, where) for value in values)
    return a, b, c, d


def repair_box(box: Box, size: tuple[int, int], where: str, log: ProblemLog) -> Box | None:
    """Clip a box to its image; report and drop a box without area or outside the image.

    Args:
        box: Corners x1, y1, x2, y2 [px].
        size: The image's width and height [px].
        where: File and entry, for error messages.
        log: Log of the problems.

    Returns:
        The box inside the image, or None if it is dropped.
    """
    shown = f"box ({', '.join(f'{value:g}' for value in box)})"
    fault = _extent_fault(box)
    if fault:
        log.report(f"{where}: {shown} {fault}", "dropped", kind="boxes without an area")
        return None
    clipped = _clip(box, size)
    if _extent_fault(clipped):
        log.report(f"{where}: {shown} lies outside the {size[0]}x{size[1]} image", "dropped", kind="boxes outside")
        return None
    if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > CLIP_TOLERANCE_PX:
        beyond = f"{where}: {shown} lies partly outside the {size[0]}x{size[1]} image"
        log.report(beyond, "clipped", kind="boxes partly outside")
    return clipped


def _extent_fault(box: Box) -> str | None:
    """Say what is wrong with a box's sides, or return None if nothing is."""
    sides = box[2] - box[0], box[3] - box[1]
    if min(sides) < 0:
        return "has a negative width or height"
    return "has zero area" if min(sides) < MIN_EXTENT_PX else None


def _clip(box: Box, size: tuple[int, int]) -> Box:
    """Clamp a box's corners to its image. A box wholly outside comes back with zero extent."""
    width, height = size
    x1, x2 = (min(max(x, 0.0), float(width)) for x in (box[0], box[2]))
    y1, y2 = (min(max(y, 0.0), float(height)) for y in (box[1], box[3]))
    return x1, y1, x2, y2


def box_area(box: Box) -> float:
    """Return the area of a box [px^2]."""
    return (box[2] - box[0]) * (box[3] - box[1])


def object_area(area: float | None, box: Box, where: str, log: ProblemLog) -> float:
    """Return an object's area [px^2]: the annotation's if it is plausible, else the box's.

    The area decides what counts as small, medium and large: 0 or -1 would take the object out of every metric.
    """
    whole = box_area(box)
    if area is None:
        return whole
    least, most = (share * whole for share in AREA_SHARES)
    if not (area > 0 and least <= area <= max(most, whole + 1)):
        log.note(f"{where}: area {area:g} of a box of {whole:g}", "the box's is taken", kind=AREAS)
        return whole
    return area


AREAS = "areas that are not positive or far from their box's"
