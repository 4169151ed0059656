"""The part that all readers share: raw images and boxes in, checked and repaired annotations out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from odebackbones.engine.image_check import check_images
from odebackbones.errors import InputError, unknown_name

from .boxes import Box, repair_box
from .problems import ProblemLog
from .records import IGNORE_LABEL, Annotations, ImageRecord


@dataclass(frozen=True, slots=True)
class RawBox:
    """An object as the file has it.

    Args:
        where: File and entry, for messages.
        name: The class, None for a region of no class.
        corners: x1, y1, x2, y2 [px], 0-based.
        crowd: Ignored in matching.
        area: [px^2]; None: the box's.
    """

    where: str
    name: str | None
    corners: Box
    crowd: bool
    area: float | None = None


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image as the annotations have it; ``size`` is the recorded width and height [px], if any."""

    image_id: int
    path: Path
    size: tuple[int, int] | None
    boxes: list[RawBox]


def assemble(
    log: ProblemLog,
    images: Sequence[RawImage],
    *,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
    verify: bool,
) -> Annotations:
    """Check images and boxes against the files and each other, and number the classes.

    Args:
        log: Takes the problems; names the data set.
        images: What the annotations hold.
        classes: The name of label i + 1.
        category_ids: The data set's own ids; None: 1..C.
        verify: Decode every image.
    """
    _refuse_bad_classes(log.source, classes)
    _refuse_unknown_classes(images, classes)
    _refuse_duplicates(log.source, images)
    labels = {name: label for label, name in enumerate(classes, start=1)}
    found = check_images([image.path for image in images], decode=verify)
    kept = [_record(image, size, labels, log) for image, size in zip(images, found, strict=True)]
    records = tuple(record for record in kept if record is not None)
    problems = log.summary()
    if not records:
        raise InputError(f"{log.source}: no image is left{_first_problem(problems)}; check the file and image folder")
    ids = tuple(category_ids) if category_ids is not None else tuple(labels.values())
    return Annotations(log.source, records, tuple(classes), ids, problems)


def read_names(set_file: Path) -> list[str]:
    """Read the image names of a list file, one a line; VOC's per-class lists have -1, 0 or 1 behind the name."""
    if not set_file.is_file():
        raise InputError(f"{set_file}: no such file; it must list the split's images, one name a line")
    try:
        lines = [line.strip() for line in set_file.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{set_file}: not a text file ({error}); it must list one image name a line") from error
    names = [_without_flag(line) for line in lines if line]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{set_file}: listed more than once: {', '.join(twice[:5])}; remove the repeated lines")
    return names


def class_names(images: Iterable[RawImage]) -> list[str]:
    """Return the names of the classes that occur, sorted."""
    return sorted({box.name for image in images for box in image.boxes if box.name is not None})


def _without_flag(line: str) -> str:
    """Cut VOC's flag: two spaces and 0 or 1, or one and -1, so that names with a space stay whole."""
    for flag in ("  1", "  0", " -1"):
        line = line.removesuffix(flag)
    return line.strip()


def _record(
    image: RawImage, found: tuple[int, int] | str, labels: dict[str, int], log: ProblemLog
) -> ImageRecord | None:
    """Build the record of an image; None if its file is missing or unreadable."""
    if isinstance(found, str):
        log.report(f"{image.path}: {found}", "left out")
        return None
    if image.size is not None and image.size != found:
        recorded = f"{image.size[0]}x{image.size[1]}"
        log.report(f"{image.path}: is {found[0]}x{found[1]}, recorded as {recorded}", "read with the file's size")
    repaired = [(raw, repair_box(raw.corners, found, raw.where, log)) for raw in image.boxes]
    kept = [(raw, box) for raw, box in repaired if box is not None]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) if raw.area is None else raw.area for raw, box in kept]
    return ImageRecord(
        image_id=image.image_id,
        path=image.path,
        width=found[0],
        height=found[1],
        boxes=np.array([box for _, box in kept], dtype=np.float32).reshape(-1, 4),
        labels=np.array([IGNORE_LABEL if raw.name is None else labels[raw.name] for raw, _ in kept], dtype=np.int64),
        crowd=np.array([raw.crowd for raw, _ in kept], dtype=bool),
        area=np.array(areas, dtype=np.float32),
    )


def _refuse_bad_classes(source: str, classes: Sequence[str]) -> None:
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(
            f"{source}: class names must be unique, got twice: {', '.join(twice[:5])}; rename or join them"
        )
    if not classes:
        raise InputError(f"{source}: no category; annotate at least one class, or name them with --data.classes")


def _refuse_unknown_classes(images: Sequence[RawImage], classes: Sequence[str]) -> None:
    missing = [name for name in class_names(images) if name not in classes]
    if missing:
        where = next(box.where for image in images for box in image.boxes if box.name == missing[0])
        hints = "; ".join(str(unknown_name("class", name, classes)) for name in missing[:5])
        raise InputError(f"{where}: {hints}. Correct the annotations, or add the class to --data.classes")


def _refuse_duplicates(source: str, images: Sequence[RawImage]) -> None:
    twice = [str(key) for key, count in Counter(image.image_id for image in images).items() if count > 1]
    if twice:
        raise InputError(f"{source}: image ids must be unique, got twice: {', '.join(twice[:5])}; renumber the images")


def _first_problem(problems: Sequence[str]) -> str:
    return f" of {len(problems)} problem(s), first: {problems[0]}" if problems else ""
