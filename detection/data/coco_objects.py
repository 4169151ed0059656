"""Parts of one COCO annotation, as various tools write them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detection.data.boxes import Box, box_numbers
from detection.data.problems import ProblemLog
from odebackbones.errors import InputError


def field(entry: Any, key: str, where: str) -> Any:
    """Return a value that an entry must have."""
    if not isinstance(entry, dict) or key not in entry:
        raise InputError(f"{where}: lacks {key!r}; add it or remove the entry")
    return entry[key]


def integer(entry: Any, key: str, where: str) -> int:
    """Read a whole number, also written as 3.0 or "3"."""
    value = field(entry, key, where)
    number = whole_or_none(value)
    if number is None:
        raise InputError(f"{where}: {key!r} must be an integer, got {value!r}; correct the entry")
    return number


def whole_or_none(value: Any) -> int | None:
    """Read a whole number, also written as 3.0 or "3", with all its digits; return None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return int(value) if isinstance(value, int | str) else int(value) if float(value).is_integer() else None
    except (TypeError, ValueError, OverflowError):
        number = number_or_none(value)
        return int(number) if number is not None and number.is_integer() else None


def number_or_none(value: Any) -> float | None:
    """Read a finite number, also from text; return None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def flag(value: Any, where: str) -> bool:
    """Read a flag: 0, 1, true or false, also as text; None counts as 0."""
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    number = number_or_none(value) if value is not None else 0.0
    if number not in (0.0, 1.0):
        raise InputError(f"{where}: expected 0 or 1, got {value!r}; correct the entry")
    return number == 1.0


def corners_of(entry: dict[str, Any], where: str, log: ProblemLog) -> Box:
    """Convert COCO's x, y, width, height to corners; a rotated box (CVAT) becomes the upright box around it."""
    x, y, width, height = box_numbers(field(entry, "bbox", where), where)
    attributes = entry.get("attributes")
    angle = number_or_none(attributes.get("rotation")) if isinstance(attributes, dict) else None
    if not angle:
        return x, y, x + width, y + height
    log.note(f"{where}: rotation {angle:g}", "the upright box around it is taken", kind="rotated boxes")
    sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    half_width, half_height = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    cx, cy = x + width / 2, y + height / 2
    return cx - half_width, cy - half_height, cx + half_width, cy + half_height


LEAST_CORNERS = 3
"""Smallest number of corners of a polygon; fewer enclose nothing."""


def around_segmentation(entry: dict[str, Any]) -> Box | None:
    """Return the corners of the box around polygons or run lengths, or None without a readable segmentation."""
    segmentation = entry.get("segmentation")
    if not segmentation:
        return None
    try:
        return around_runs(segmentation) if isinstance(segmentation, dict) else around_polygons(segmentation)
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def around_polygons(segmentation: Sequence[Any]) -> Box:
    """Return the box around a list of polygons, each x1, y1, x2, y2, ..., or around a single polygon."""
    polygons = [segmentation] if isinstance(segmentation[0], int | float) else segmentation
    rings = [np.array(polygon, dtype=float).reshape(-1, 2) for polygon in polygons]
    points = np.concatenate([ring for ring in rings if len(ring) >= LEAST_CORNERS])
    if not np.isfinite(points).all():
        raise ValueError("not finite")
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return x1, y1, x2, y2


def around_runs(segmentation: dict[str, Any]) -> Box:
    """Return the box around COCO's run lengths, compressed or not."""
    from pycocotools import mask

    height, width = segmentation["size"]
    counts = segmentation["counts"]
    runs: Any = segmentation
    if isinstance(counts, list):
        if sum(counts) != height * width:
            raise ValueError("of another image")
        runs = mask.frPyObjects(runs, height, width)
    x, y, width, height = mask.toBbox(runs).tolist()
    if width <= 0 or height <= 0:
        raise ValueError("empty")
    return x, y, x + width, y + height
