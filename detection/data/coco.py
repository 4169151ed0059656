"""COCO's instances JSON (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from odebackbones.errors import InputError

from .assemble import RawBox, RawImage, ReadOptions, assemble
from .boxes import Box
from .coco_objects import around_segmentation, corners_of, flag, integer, number_or_none
from .image_names import ImageFolder
from .plausible import require_agreement
from .problems import ProblemLog
from .records import Annotations

ROOTS = ("none", "", None)
"""What Roboflow has as the supercategory of the category above all others."""

BACKGROUNDS = ("background", "__background__", "_background_")


def read_coco(annotation_file: Path, image_folder: Path, options: ReadOptions = ReadOptions()) -> Annotations:  # noqa: B008
    """Read COCO annotations; label i + 1 is the i-th category by ascending id.

    Args:
        annotation_file: JSON with ``images``, ``annotations`` and ``categories``.
        image_folder: What the images' ``file_name`` is relative to.
        options: How to treat what is found. A class of ``options.classes`` that the file does not list gets an id
            above the file's own.
    """
    content = load(annotation_file)
    if not image_folder.is_dir():
        raise InputError(f"{image_folder}: no such image folder; set --data.train_images or --data.val_images")
    log = ProblemLog(str(annotation_file), strict=options.strict)
    names = categories_of(content["categories"], content["annotations"], log)
    images = images_of(content["images"], ImageFolder(image_folder), log)
    add_boxes(images, content["annotations"], names, log)
    labels = tuple(dict.fromkeys(names.values())) if options.classes is None else tuple(options.classes)
    ids = ids_of(labels, names)
    return assemble(log, list(images.values()), form="coco", classes=labels, category_ids=ids, options=options)


def load(file: Path) -> dict[str, list[Any]]:
    """Read the file and check that it is COCO's dictionary of lists."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give the path of a COCO JSON") from error
    except ValueError as error:
        raise InputError(
            f"{file}: not a JSON file in UTF-8 ({error}); give a COCO JSON, or download it again"
        ) from error
    keys = ("images", "annotations", "categories")
    lacking = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise InputError(
            f"{file}: no COCO annotations, it lacks the list(s) {', '.join(lacking)}; give an instances file"
        )
    return content


def categories_of(entries: list[Any], annotations: list[Any], log: ProblemLog) -> dict[int, str]:
    """Return id -> name by ascending id, without those that stand above the classes or for none of them."""
    pairs = [(integer(entry, "id", f"{log.source}: category {i}"), entry) for i, entry in enumerate(entries)]
    names = {key: str(field(entry, "name", f"{log.source}: category {key}")).strip() for key, entry in pairs}
    if len(names) < len(pairs):
        raise InputError(f"{log.source}: two categories have the same id; renumber them")
    used = {annotation.get("category_id") for annotation in annotations if isinstance(annotation, dict)}
    above = {str(entry.get("supercategory")) for _, entry in pairs}
    for key, entry in pairs:
        is_root = entry.get("supercategory") in ROOTS and "supercategory" in entry and (key == 0 or names[key] in above)
        if key not in used and len(names) > 1 and (is_root or names[key].lower() in BACKGROUNDS):
            log.note(f"{log.source}: category {names[key]!r} (id {key})", "left out", kind="categories of no object")
            del names[key]
    lower = [name.lower() for name in set(names.values())]
    if len(set(lower)) < len(lower):
        log.note(
            f"{log.source}: {', '.join(names.values())}", "kept apart", kind="class names that differ by case only"
        )
    return dict(sorted(names.items()))


def images_of(entries: list[Any], folder: ImageFolder, log: ProblemLog) -> dict[Any, RawImage]:
    """The images by their ids as the file has them, which may be texts."""
    keys = [identity(entry, f"{log.source}: image {i}") for i, entry in enumerate(entries)]
    highest = max((key for key in keys if isinstance(key, int)), default=0)
    images: dict[Any, RawImage] = {}
    for i, (key, entry) in enumerate(zip(keys, entries, strict=True), start=1):
        if key in images:
            raise InputError(f"{log.source}: image id {key} occurs twice; renumber the images")
        where = f"{log.source}: image {key}"
        path = folder.of_name(str(field(entry, "file_name", where)), log, where)
        number = key if isinstance(key, int) else highest + i
        images[key] = RawImage(number, path, recorded_size(entry), [])
    return images


def identity(entry: Any, where: str) -> int | str:
    """An image's id: a whole number, however it is written, or a text."""
    value = field(entry, "id", where)
    if isinstance(value, str) and not value.strip().isdecimal():
        return value
    return integer(entry, "id", where)


def recorded_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Return width and height [px]; None if the entry has none that can be."""
    width, height = (number_or_none(entry.get(side)) for side in ("width", "height"))
    return (int(width), int(height)) if width and height and min(width, height) > 0 else None


def add_boxes(images: dict[Any, RawImage], entries: list[Any], names: dict[int, str], log: ProblemLog) -> None:
    """Put each annotation into its image; ids of annotations don't matter, but exact copies are dropped."""
    seen: set[str] = set()
    pairs: list[tuple[Box, Box]] = []
    for i, entry in enumerate(entries):
        where = f"{log.source}: annotation {entry.get('id', f'at position {i}') if isinstance(entry, dict) else i}"
        with log.leaving_out("annotations that can't be read"):
            key = field(entry, "image_id", where)
            image = images.get(key) or images.get(loose(key))
            if image is None:
                log.report(
                    f"{where}: image_id {key!r} is not in 'images'", "left out", kind="annotations of other images"
                )
                continue
            category = integer(entry, "category_id", where)
            if category not in names:
                known = f"'categories' ({', '.join(map(str, names))})"
                log.report(f"{where}: category_id {category} is not in {known}", "left out", kind=UNLISTED)
                continue
            content = json.dumps({name: value for name, value in entry.items() if name != "id"}, sort_keys=True)
            if content in seen:
                log.report(f"{where}: a copy of another", "dropped", kind="exact copies of annotations")
                continue
            seen.add(content)
            box = read_object(entry, names[category], where, log)
            image.boxes.append(box)
            if (around := around_segmentation(entry)) and entry.get("bbox"):
                pairs.append((box.corners, around))
    if pairs and (apart := require_agreement(log.source, pairs)):
        log.note(f"{log.source}: {apart} of {len(pairs)} boxes", "kept", kind="sets of boxes that contradict polygons")


UNLISTED = "annotations of a category that the file does not list"


def read_object(entry: dict[str, Any], name: str, where: str, log: ProblemLog) -> RawBox:
    """An annotation as an object; a box that is missing is the segmentation's."""
    around = around_segmentation(entry)
    if not entry.get("bbox") and around:
        log.note(f"{where}: no bbox", "the segmentation's is taken", kind="annotations without a box")
        corners = around
    else:
        corners = corners_of(entry, where, log)
    area = number_or_none(entry.get("area"))
    return RawBox(where, name, corners, flag(entry.get("iscrowd"), f"{where}: iscrowd"), area)


def loose(key: Any) -> Any:
    """A reference to an image that is written as another type than its id."""
    number = number_or_none(key)
    return int(number) if number is not None and number.is_integer() else str(key)


def ids_of(classes: Sequence[str], names: dict[int, str]) -> list[int]:
    """Return the file's id of each class; unlisted classes are numbered on from the highest."""
    by_name = {name: key for key, name in reversed(names.items())}
    unlisted = [name for name in classes if name not in by_name]
    by_name |= {name: key for key, name in enumerate(unlisted, start=max(names, default=0) + 1)}
    return [by_name[name] for name in classes]


def field(entry: Any, key: str, where: str) -> Any:
    """What an entry must have."""
    if not isinstance(entry, dict) or key not in entry:
        raise InputError(f"{where}: lacks {key!r}; add it or remove the entry")
    return entry[key]
