"""One-line descriptions of data sets, and checks for sets that allow no training or no evaluation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detection.data.records import IGNORE_LABEL, Annotations
from engine.log import warn
from odebackbones.errors import InputError

LEAST_SIDE = 1.0
"""Smallest side of a resized image [px]; a detector pads it to 32."""

MANY_CROWDS = 0.5
"""Share of crowds above which there is a warning."""

SHOWN_CLASSES = 10


def describe(split: str, annotations: Annotations) -> str:
    """Describe a split: its images, objects by class, crowds, and smallest and largest box."""
    labels = np.concatenate([r.labels[~r.crowd] for r in annotations.images])
    crowds = sum(int(r.crowd.sum()) for r in annotations.images)
    boxes = np.concatenate([r.boxes[~r.crowd] for r in annotations.images])
    empty = sum(bool(r.crowd.all()) for r in annotations.images)
    counts = Counter(annotations.classes[label - 1] for label in labels.tolist() if label != IGNORE_LABEL)
    by_class = [f"{name} {counts[name]}" for name in annotations.classes]
    more = f", and {len(by_class) - SHOWN_CLASSES} more classes" if len(by_class) > SHOWN_CLASSES else ""
    parts = [
        f"{len(annotations.images)} images ({empty} without objects)",
        f"{len(labels)} objects ({', '.join(by_class[:SHOWN_CLASSES])}{more})",
        f"{crowds} crowds (not trained on)",
    ]
    if len(boxes):
        sides = boxes[:, 2:] - boxes[:, :2]
        least, most = (sides[pick(sides.prod(1))] for pick in (np.argmin, np.argmax))
        parts.append(f"boxes of {least[0]:.0f}x{least[1]:.0f} to {most[0]:.0f}x{most[1]:.0f} px")
    return f"{split}: {', '.join(parts)}"


def require_objects(annotations: Annotations, *, chosen: Sequence[str] = ()) -> None:
    """Refuse a training set without objects other than crowds, which are not trained on; warn if over half are crowds.

    Args:
        annotations: Training set.
        chosen: Classes that the user named, whose lack of objects the reader has reported.

    Raises:
        InputError: There is nothing to train on.
    """
    crowds = sum(int(r.crowd.sum()) for r in annotations.images)
    objects = sum(len(r.labels) for r in annotations.images) - crowds
    what = "crowds (COCO's iscrowd, as of masks in run lengths; VOC's difficult; KITTI's DontCare)"
    if not objects:
        if crowds:
            found = f"all {crowds} objects are {what}, which are not trained on: set iscrowd or difficult to 0"
        else:
            problems = annotations.problems
            found = (
                f"no object is left of {len(problems)} problem(s), first: {problems[0]}" if problems else "no objects"
            )
        raise InputError(f"{annotations.name}: {found}; correct the annotations, or take others")
    if crowds > MANY_CROWDS * (crowds + objects):
        warn(f"{annotations.name}: {crowds} of {crowds + objects} objects are {what}, and are not trained on")
    idle = [name for label, name in enumerate(annotations.classes, 1) if not has_objects(annotations, label)]
    if idle := [name for name in idle if name not in chosen]:
        warn(f"{annotations.name}: no object of the classes {', '.join(idle[:5])}")


def without_thin_images(annotations: Annotations, *, size: tuple[int, int], strict: bool) -> Annotations:
    """Return a data set without the images that a detector's resizing would reduce to no pixel.

    Args:
        annotations: The data set.
        size: The detector's length of the shorter side and its bound on the longer side [px].
        strict: Refuse such images.

    Raises:
        InputError: There are such images and ``strict`` is set, or all images are such.
    """
    faults = {r.image_id: thinness(r.width, r.height, size) for r in annotations.images}
    thin = {r.image_id: r for r in annotations.images if faults[r.image_id]}
    if not thin:
        return annotations
    lines = [f"{r.path}: {faults[key]}" for key, r in thin.items()]
    if strict or len(thin) == len(annotations.images):
        raise InputError(f"{annotations.name}: {lines[0]}; leave it out, or raise model.max_size")
    warn(f"{annotations.name}: {len(thin)} thin images (left out), such as {lines[0]}")
    kept = tuple(r for r in annotations.images if r.image_id not in thin)
    return replace(annotations, images=kept, problems=(*annotations.problems, *(f"{line}: left out" for line in lines)))


def thinness(width: int, height: int, size: tuple[int, int]) -> str:
    """Say what is wrong with an image that resizing would reduce to no pixel; an empty text for others."""
    shorter, longer = sorted((width, height))
    if shorter * min(size[0] / shorter, size[1] / longer) >= LEAST_SIDE:
        return ""
    return f"{width}x{height} px, too thin for sides of {size[0]} to {size[1]} px"


def has_objects(annotations: Annotations, label: int) -> bool:
    """Whether any object with this label is trained on."""
    return any(bool((r.labels[~r.crowd] == label).any()) for r in annotations.images)


def crowding_notes(annotations: Annotations, *, detections: int) -> tuple[str, ...]:
    """Note for the report a set without objects, and images with more objects than detections are kept."""
    objects = [int((~r.crowd).sum()) for r in annotations.images]
    notes = []
    if not sum(objects):
        crowds = sum(int(r.crowd.sum()) for r in annotations.images)
        why = f"all {crowds} are crowds, which are not counted" if crowds else "there are none"
        notes.append(f"No accuracy: the validation set has no objects ({why}).")
    if fuller := sum(number > detections for number in objects):
        notes.append(
            f"{fuller} of {len(objects)} images have more objects (up to {max(objects)}) than detections are kept "
            f"({detections}): raise model.detections."
        )
    return tuple(notes)
