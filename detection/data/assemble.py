"""The common part of all readers: raw images and boxes in, checked and repaired annotations out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detection.data.boxes import Box, box_area, object_area, repair_box
from detection.data.exif import is_turned
from detection.data.image_names import missing
from detection.data.plausible import require_pixels
from detection.data.problems import ProblemLog
from detection.data.records import IGNORE_LABEL, Annotations, ImageRecord
from engine.images.check import inspect_images
from engine.images.files import ImageFacts, Turning
from odebackbones.errors import InputError, unknown_name

RESIZED_PX = 1
"""Largest difference between a recorded size and the file's that can be rounding."""

SAME_PROPORTION = 0.05
"""Largest relative change of the aspect ratio in proportional resizing; rounding matters in small images."""


@dataclass(frozen=True)
class ReadOptions:
    """Settings of a reader: how it treats the data it finds.

    Attributes:
        strict: Refuse faults that could be repaired.
        verify: Decode every image completely, not just its header.
        exif: Use of the orientation in EXIF data.
        classes: Class names in the order of the labels; None takes the data set's names.
        chosen: Whether the user named the classes: leaving out others is then not a fault.
        complete: Whether every one of these classes must have an object.
    """

    strict: bool = False
    verify: bool = True
    exif: Turning = "auto"
    classes: Sequence[str] | None = None
    chosen: bool = False
    complete: bool = False


@dataclass(frozen=True, slots=True)
class RawBox:
    """An object as it is in the file.

    Args:
        where: File and entry, for messages.
        name: Class name, or None for a region of no class.
        corners: Corners x1, y1, x2, y2 [px], 0-based.
        crowd: Whether matching ignores the object.
        area: Area of the object [px^2]; None takes the box's.
    """

    where: str
    name: str | None
    corners: Box
    crowd: bool
    area: float | None = None


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image as it is in the annotations; ``size`` is the recorded width and height [px], if any."""

    image_id: int
    path: Path
    size: tuple[int, int] | None
    boxes: list[RawBox]


def assemble(
    log: ProblemLog,
    images: Sequence[RawImage],
    *,
    form: str,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
    options: ReadOptions,
) -> Annotations:
    """Check images and boxes against the files and each other, and number the classes.

    Args:
        log: Log of the problems, which names the data set.
        images: Images and boxes of the annotations.
        form: Data format: ``coco``, ``voc`` or ``kitti``.
        classes: Class names, in the order of the labels 1..C.
        category_ids: The data set's own ids of the classes; None for 1..C.
        options: Settings of the reader.
    """
    refuse_bad_classes(log, classes)
    refuse_duplicates(log, images)
    if options.complete:
        report_idle_classes(images, classes, log)
    images = [replace(image, boxes=of_classes(image.boxes, classes, log, options)) for image in images]
    labels = {name: label for label, name in enumerate(classes, start=1)}
    facts = inspect_images([image.path for image in images], decode=options.verify)
    placed = [place(image, found, options.exif, log) for image, found in zip(images, facts, strict=True)]
    there = rescale_record([image for image in placed if image is not None], log)
    sized = [(box.corners, image.size) for image in there for box in image.raw.boxes]
    require_pixels(log.source, sized, form=form)
    records = tuple(record_of(image, labels, log) for image in there)
    problems = log.summary()
    if not records:
        first = f" of {len(problems)} problem(s), first: {problems[0]}" if problems else ""
        raise InputError(f"{log.source}: no image is left{first}; check the file and image folder")
    ids = tuple(category_ids) if category_ids is not None else tuple(labels.values())
    return Annotations(log.source, records, tuple(classes), ids, problems)


def class_names(images: Iterable[RawImage]) -> list[str]:
    """Return the sorted names of the classes that occur."""
    return sorted({box.name for image in images for box in image.boxes if box.name is not None})


def report_idle_classes(images: Iterable[RawImage], classes: Sequence[str], log: ProblemLog) -> None:
    """Report the classes that no object has, with similar names that objects do have."""
    occurring = class_names(images)
    others = [name for name in occurring if name not in classes]
    for name in classes:
        if name not in occurring:
            problem = str(unknown_name("class", name, others)) if others else f"class {name!r} has no object"
            log.report(f"data.classes: {problem}", "trained without an object", kind="classes without an object")


def of_classes(boxes: Sequence[RawBox], classes: Sequence[str], log: ProblemLog, options: ReadOptions) -> list[RawBox]:
    """Return the boxes of these classes or of no class; note or report the others."""
    kept = []
    for box in boxes:
        if box.name is None or box.name in classes:
            kept.append(box)
        elif options.chosen:
            log.note(f"{box.where}: class {box.name!r}", "left out", kind="objects of classes that data.classes lacks")
        else:
            hint = str(unknown_name("class", box.name, classes))
            log.report(f"{box.where}: {hint}", "left out", kind="objects of classes that the training set lacks")
    return kept


@dataclass(frozen=True)
class PlacedImage:
    """An image whose file is there, with boxes that refer to its pixels.

    Attributes:
        raw: The image as it is in the annotations.
        size: Width and height of the image as it is served [px].
        turned: Whether its file is turned upright.
    """

    raw: RawImage
    size: tuple[int, int]
    turned: bool


def place(raw: RawImage, facts: ImageFacts | str, exif: Turning, log: ProblemLog) -> PlacedImage | None:
    """Return an image with the size of its file, or None if the file is missing or unreadable."""
    if isinstance(facts, str):
        fault = missing(raw.path) if "missing" in facts else facts
        log.report(f"{raw.path}: {fault}", "left out", kind="images that are missing or can't be read")
        return None
    turned = is_turned(raw.path, facts, raw.size, exif, log)
    return PlacedImage(raw, facts.upright if turned else facts.size, turned)


def rescale_record(images: list[PlacedImage], log: ProblemLog) -> list[PlacedImage]:
    """Scale boxes to the size of the file where images were resized after the annotation.

    An image was resized if its boxes fit the recorded size and either its proportions are kept or, as after
    stretching, the boxes of some image of another size than recorded don't fit its file. Otherwise, or if the recorded
    sides are just exchanged, the recorded size is wrong, and the boxes refer to the file's.
    """
    outgrown = any(is_of_another_size(image) and not fits(image.raw.boxes, image.size) for image in images)
    return [rescale(image, outgrown, log) if is_of_another_size(image) else image for image in images]


def is_of_another_size(image: PlacedImage) -> bool:
    """Whether the recorded size differs from the file's by more than rounding."""
    sides = zip(image.raw.size or image.size, image.size, strict=True)
    return any(abs(recorded - found) > RESIZED_PX for recorded, found in sides)


def rescale(image: PlacedImage, outgrown: bool, log: ProblemLog) -> PlacedImage:
    """Scale an image's boxes if it was resized; ``outgrown`` if boxes of some such image don't fit its file."""
    raw, size, recorded = image.raw, image.size, image.raw.size or image.size
    different = f"{raw.path}: is {size[0]}x{size[1]}, recorded as {recorded[0]}x{recorded[1]}"
    x, y = size[0] / recorded[0], size[1] / recorded[1]
    if recorded == size[::-1]:
        log.report(different, "read with the file's size", kind="images whose recorded sides are exchanged")
        return image
    if not fits(raw.boxes, recorded) or not (outgrown or abs(x / y - 1) < SAME_PROPORTION):
        log.report(different, "read with the file's size", kind="images whose recorded size is wrong")
        return image
    log.report(different, "boxes scaled to the file's size", kind="images of another size than recorded")
    return replace(image, raw=replace(raw, boxes=[scale_boxes(box, x, y) for box in raw.boxes]))


def fits(boxes: Sequence[RawBox], size: tuple[int, int]) -> bool:
    """Whether all boxes end within an image of this size."""
    return all(box.corners[2] <= size[0] + RESIZED_PX and box.corners[3] <= size[1] + RESIZED_PX for box in boxes)


def scale_boxes(box: RawBox, x: float, y: float) -> RawBox:
    """Scale a box to an image that is ``x`` times as wide and ``y`` times as high."""
    x1, y1, x2, y2 = box.corners
    area = None if box.area is None else box.area * x * y
    return replace(box, corners=(x * x1, y * y1, x * x2, y * y2), area=area)


def record_of(image: PlacedImage, labels: dict[str, int], log: ProblemLog) -> ImageRecord:
    """Build the record of an image, with the boxes that have an area in it."""
    repaired = [(raw, repair_box(raw.corners, image.size, raw.where, log)) for raw in image.raw.boxes]
    kept = [(raw, box) for raw, box in repaired if box is not None]
    areas = [box_area(box) if raw.crowd else object_area(raw.area, box, raw.where, log) for raw, box in kept]
    return ImageRecord(
        image_id=image.raw.image_id,
        path=image.raw.path,
        width=image.size[0],
        height=image.size[1],
        boxes=np.array([box for _, box in kept], dtype=np.float32).reshape(-1, 4),
        labels=np.array([IGNORE_LABEL if raw.name is None else labels[raw.name] for raw, _ in kept], dtype=np.int64),
        crowd=np.array([raw.crowd for raw, _ in kept], dtype=bool),
        area=np.array(areas, dtype=np.float32),
        turned=image.turned,
    )


def refuse_bad_classes(log: ProblemLog, classes: Sequence[str]) -> None:
    """Refuse classes with the same name, and data without classes."""
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(
            f"{log.source}: class names must be unique, got twice: {', '.join(twice[:5])}; rename or join them"
        )
    if not classes:
        first = f" ({len(log.lines)} problem(s), first: {log.lines[0]})" if log.lines else ""
        advice = "annotate at least one class, or name them with --data.classes"
        raise InputError(f"{log.source}: no category{first}; {advice}")


def refuse_duplicates(log: ProblemLog, images: Sequence[RawImage]) -> None:
    """Refuse images with the same id; note a file that occurs under several ids."""
    twice = [str(key) for key, count in Counter(image.image_id for image in images).items() if count > 1]
    if twice:
        raise InputError(
            f"{log.source}: image ids must be unique, got twice: {', '.join(twice[:5])}; renumber the images"
        )
    for path, count in Counter(image.path for image in images).items():
        if count > 1:
            log.note(f"{path}: is there under {count} ids", "kept", kind="image files that are there more than once")
