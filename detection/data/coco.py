"""COCO's instances JSON (https://cocodataset.org/#format-data)."""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detection.data.assemble import RawBox, RawImage, ReadOptions, assemble
from detection.data.boxes import Box
from detection.data.coco_objects import (
    around_segmentation,
    corners_of,
    field,
    flag,
    integer,
    number_or_none,
    whole_or_none,
)
from detection.data.image_names import ImageFolder
from detection.data.plausible import require_agreement, require_areas
from detection.data.problems import ProblemLog
from detection.data.records import Annotations
from odebackbones.errors import InputError

ROOTS = ("none", "", None)
"""Roboflow's values for the supercategory of the root category."""

BACKGROUNDS = ("background", "__background__", "_background_")


def read_coco(annotation_file: Path, image_folder: Path, options: ReadOptions = ReadOptions()) -> Annotations:  # noqa: B008
    """Read COCO annotations; label i + 1 is the i-th category by ascending id.

    Args:
        annotation_file: JSON file with ``images``, ``annotations`` and ``categories``.
        image_folder: Folder that the images' ``file_name`` is relative to.
        options: Settings of the reader. A class of ``options.classes`` that the file does not list gets an id above the
            file's own.
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
    """Return id -> name by ascending id, without unused root and background categories."""
    pairs = [(integer(entry, "id", f"{log.source}: category {i}"), entry) for i, entry in enumerate(entries)]
    names = {key: class_name(entry, f"{log.source}: category {key}") for key, entry in pairs}
    if len(names) < len(pairs):
        raise InputError(f"{log.source}: two categories have the same id; renumber them")
    used = {whole_or_none(annotation.get("category_id")) for annotation in annotations if isinstance(annotation, dict)}
    require_ids(used - {None}, names, log.source)  # pyright: ignore[reportArgumentType]
    above = {str(entry.get("supercategory")) for _, entry in pairs}
    for key, entry in pairs:
        is_root = entry.get("supercategory") in ROOTS and "supercategory" in entry and (key == 0 or names[key] in above)
        if key not in used and len(names) > 1 and (is_root or names[key].lower() in BACKGROUNDS):
            log.note(f"{log.source}: category {names[key]!r} (id {key})", "left out", kind="categories of no object")
            del names[key]
    if len(set(names.values())) < len(names):
        shown = ", ".join(f"{name!r} (id {key})" for key, name in names.items())
        log.note(f"{log.source}: {shown}", "taken for one class", kind="categories of a name that another has")
    lower = [name.lower() for name in set(names.values())]
    if len(set(lower)) < len(lower):
        log.note(
            f"{log.source}: {', '.join(names.values())}", "kept apart", kind="class names that differ by case only"
        )
    return dict(sorted(names.items()))


def class_name(entry: Any, where: str) -> str:
    """Return a category's name, without surrounding blanks, and with accents in one spelling (NFC)."""
    value = field(entry, "name", where)
    name = unicodedata.normalize("NFC", str(value)).strip()
    if value is None or not name:
        raise InputError(f"{where}: has no name, but {value!r}; name it")
    return name


def require_ids(used: set[int], names: dict[int, str], source: str) -> None:
    """Refuse annotations whose category ids agree with the listed ones, from first to last, only if shifted by one.

    Raises:
        InputError: The ids seem shifted.
    """
    for shift in (1, -1):
        shifted = {key + shift for key in used}
        ends = {min(names), max(names)} if names else set()
        if not used <= names.keys() and ends <= shifted <= names.keys():
            raise InputError(
                f"{source}: annotations are of the category ids {', '.join(map(str, sorted(used)[:5]))}, and "
                f"'categories' lists {', '.join(map(str, list(names)[:5]))}: they seem shifted by {shift}; correct one"
            )


def images_of(entries: list[Any], folder: ImageFolder, log: ProblemLog) -> dict[Any, RawImage]:
    """Return the images by their ids as written in the file, which may be texts."""
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
    """Return an image's id: a whole number, however it is written, or a text."""
    value = field(entry, "id", where)
    return value if isinstance(value, str) and whole_or_none(value) is None else integer(entry, "id", where)


def recorded_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Return width and height [px], or None if the entry has no valid ones."""
    width, height = (number_or_none(entry.get(side)) for side in ("width", "height"))
    return (int(width), int(height)) if width and height and min(width, height) > 0 else None


def add_boxes(images: dict[Any, RawImage], entries: list[Any], names: dict[int, str], log: ProblemLog) -> None:
    """Add each annotation to its image; its id doesn't matter, but exact copies are dropped."""
    seen: set[bytes] = set()
    pairs: list[tuple[Box, Box]] = []
    areas: list[tuple[Box, float]] = []
    for i, entry in enumerate(entries):
        where = f"{log.source}: annotation {entry.get('id', f'at position {i}') if isinstance(entry, dict) else i}"
        with log.leaving_out("annotations that can't be read"):
            key = field(entry, "image_id", where)
            image = images.get(reference(key, where))
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
            content = digest(entry)
            if content in seen:
                log.report(f"{where}: a copy of another", "dropped", kind="exact copies of annotations")
                continue
            seen.add(content)
            around = around_segmentation(entry)
            box = read_object(entry, names[category], around, where, log)
            image.boxes.append(box)
            if entry.get("bbox"):
                pairs += [(box.corners, around)] if around else []
                areas += [(box.corners, box.area)] if box.area else []
    require_areas(log.source, areas)
    if apart := require_agreement(log.source, pairs):
        log.note(f"{log.source}: {apart} of {len(pairs)} boxes", "kept", kind="sets of boxes that contradict polygons")


UNLISTED = "annotations of a category that the file does not list"


def digest(entry: dict[str, Any]) -> bytes:
    """Hash the content of an annotation, except its id."""
    content = json.dumps({name: value for name, value in entry.items() if name != "id"}, sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def read_object(entry: dict[str, Any], name: str, around: Box | None, where: str, log: ProblemLog) -> RawBox:
    """Convert an annotation to an object; a missing box is replaced by the box ``around`` its segmentation."""
    if not entry.get("bbox") and around:
        log.note(f"{where}: no bbox", "the segmentation's is taken", kind="annotations without a box")
        corners = around
    else:
        corners = corners_of(entry, where, log)
    area = number_or_none(entry.get("area"))
    return RawBox(where, name, corners, flag(entry.get("iscrowd"), f"{where}: iscrowd"), area)


def reference(key: Any, where: str) -> int | str:
    """Return an image's id as an annotation names it: a whole number, however it is written, or a text.

    Raises:
        InputError: The id is something else.
    """
    number = whole_or_none(key)
    if number is None and not isinstance(key, str):
        raise InputError(f"{where}: 'image_id' must be an integer or a text, got {key!r}; correct the entry")
    return key if number is None else number


def ids_of(classes: Sequence[str], names: dict[int, str]) -> list[int]:
    """Return the file's id of each class; unlisted classes get the ids after the highest."""
    by_name = {name: key for key, name in reversed(names.items())}
    unlisted = [name for name in classes if name not in by_name]
    by_name |= {name: key for key, name in enumerate(unlisted, start=max(names, default=0) + 1)}
    return [by_name[name] for name in classes]
