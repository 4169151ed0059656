"""The parts of one annotation of COCO's, as tools write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from odebackbones.errors import InputError

from .boxes import Box, box_numbers
from .problems import ProblemLog


def integer(entry: Any, key: str, where: str) -> int:
    """A whole number, also as 3.0 or "3"."""
    if not isinstance(entry, dict) or key not in entry:
        raise InputError(f"{where}: lacks {key!r}; add it or remove the entry")
    number = None if isinstance(entry[key], bool) else number_or_none(entry[key])
    if number is None or not number.is_integer():
        raise InputError(f"{where}: {key!r} must be an integer, got {entry[key]!r}; correct the entry")
    return int(number)


def number_or_none(value: Any) -> float | None:
    """A finite number, also as text; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def flag(value: Any, where: str) -> bool:
    """0 or 1, also as text, true or false; nothing is 0."""
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    number = number_or_none(value) if value is not None else 0.0
    if number not in (0.0, 1.0):
        raise InputError(f"{where}: expected 0 or 1, got {value!r}; correct the entry")
    return number == 1.0


def corners_of(entry: dict[str, Any], where: str, log: ProblemLog) -> Box:
    """COCO's x, y, width, height as corners; of a rotated box (CVAT's), those of the upright one around it."""
    if "bbox" not in entry:
        raise InputError(f"{where}: lacks 'bbox'; add it or remove the entry")
    x, y, width, height = box_numbers(entry["bbox"], where)
    attributes = entry.get("attributes")
    angle = number_or_none(attributes.get("rotation")) if isinstance(attributes, dict) else None
    if not angle:
        return x, y, x + width, y + height
    log.note(f"{where}: rotation {angle:g}", "the upright box around it is taken", kind="rotated boxes")
    sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    half_width, half_height = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    cx, cy = x + width / 2, y + height / 2
    return cx - half_width, cy - half_height, cx + half_width, cy + half_height


def around_segmentation(entry: dict[str, Any]) -> Box | None:
    """The corners of the box around a segmentation, polygons or run lengths; None if there is none that can be read."""
    segmentation = entry.get("segmentation")
    if not segmentation:
        return None
    try:
        return around_runs(segmentation) if isinstance(segmentation, dict) else around_polygons(segmentation)
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def around_polygons(segmentation: Sequence[Any]) -> Box:
    """The box around a list of polygons, each x1, y1, x2, y2, ...; or around one alone."""
    polygons = [segmentation] if isinstance(segmentation[0], int | float) else segmentation
    points = np.concatenate([np.array(polygon, dtype=float).reshape(-1, 2) for polygon in polygons])
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return x1, y1, x2, y2


def around_runs(segmentation: dict[str, Any]) -> Box:
    """The box around COCO's run lengths, compressed or not."""
    from pycocotools import mask

    height, width = segmentation["size"]
    counts = segmentation["counts"]
    runs: Any = segmentation
    if isinstance(counts, list):
        runs = mask.frPyObjects(runs, height, width)
    x, y, width, height = mask.toBbox(runs).tolist()
    if width <= 0 or height <= 0:
        raise ValueError("empty")
    return x, y, x + width, y + height
