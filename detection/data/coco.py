"""COCO's instances JSON (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from odebackbones.errors import InputError

from .assemble import RawBox, RawImage, assemble
from .boxes import box_numbers, finite_number
from .problems import ProblemLog
from .records import Annotations


def read_coco(
    annotation_file: Path,
    image_folder: Path,
    *,
    strict: bool = False,
    verify: bool = True,
    classes: Sequence[str] | None = None,
) -> Annotations:
    """Read COCO annotations; label i + 1 is the i-th category by ascending id.

    Args:
        annotation_file: JSON with ``images``, ``annotations`` and ``categories``.
        image_folder: What the images' ``file_name`` is relative to.
        strict: Refuse what could be repaired.
        verify: Decode every image, not its header only.
        classes: Names in the order of the labels, e.g. those of the training set. A class that the file does not
            list gets an id above the file's own.
    """
    content = _load(annotation_file)
    if not image_folder.is_dir():
        raise InputError(f"{image_folder}: no such image folder; set --data.train_images or --data.val_images")
    log = ProblemLog(str(annotation_file), strict=strict)
    names = _categories(content["categories"], log.source)
    images = _images(content["images"], image_folder, log.source)
    _add_boxes(images, content["annotations"], names, log)
    labels = tuple(names.values()) if classes is None else tuple(classes)
    return assemble(log, list(images.values()), classes=labels, category_ids=_ids(labels, names), verify=verify)


def _load(file: Path) -> dict[str, list[Any]]:
    """Read the file and check that it is COCO's dictionary of lists."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); give the path of a COCO JSON") from error
    except ValueError as error:
        raise InputError(f"{file}: not a JSON file ({error}); give a COCO JSON, or download it again") from error
    keys = ("images", "annotations", "categories")
    lacking = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise InputError(
            f"{file}: no COCO annotations, it lacks the list(s) {', '.join(lacking)}; give an instances file"
        )
    return content


def _categories(entries: list[Any], source: str) -> dict[int, str]:
    """Return id -> name by ascending id."""
    pairs = [(_integer(entry, "id", f"{source}: category {i}"), entry) for i, entry in enumerate(entries)]
    names = {key: str(_field(entry, "name", f"{source}: category {key}")) for key, entry in pairs}
    if len(names) < len(pairs):
        raise InputError(f"{source}: two categories have the same id; renumber them")
    return dict(sorted(names.items()))


def _images(entries: list[Any], folder: Path, source: str) -> dict[int, RawImage]:
    images: dict[int, RawImage] = {}
    for i, entry in enumerate(entries):
        image_id = _integer(entry, "id", f"{source}: image {i}")
        if image_id in images:
            raise InputError(f"{source}: image id {image_id} occurs twice; renumber the images")
        where = f"{source}: image {image_id}"
        path = folder / str(_field(entry, "file_name", where))
        images[image_id] = RawImage(image_id, path, _recorded_size(entry, where), [])
    return images


def _recorded_size(entry: dict[str, Any], where: str) -> tuple[int, int] | None:
    """Return width and height [px]; None if the entry has none."""
    if "width" not in entry or "height" not in entry:
        return None
    return int(finite_number(entry["width"], where)), int(finite_number(entry["height"], where))


def _add_boxes(images: dict[int, RawImage], entries: list[Any], names: dict[int, str], log: ProblemLog) -> None:
    """Put each annotation into its image; the second of two with the same id is dropped."""
    seen: set[Any] = set()
    for i, entry in enumerate(entries):
        key = entry.get("id", f"at position {i}") if isinstance(entry, dict) else f"at position {i}"
        where = f"{log.source}: annotation {key}"
        if str(key) in seen:
            log.report(f"{where}: its id occurs twice", "dropped")
            continue
        seen.add(str(key))
        image_id, category = _integer(entry, "image_id", where), _integer(entry, "category_id", where)
        if image_id not in images:
            raise InputError(f"{where}: image_id {image_id} is not in 'images'; add the image or remove the annotation")
        if category not in names:
            raise InputError(f"{where}: category_id {category} is not in 'categories'; add it there")
        images[image_id].boxes.append(_box(entry, names[category], where))


def _box(entry: dict[str, Any], name: str, where: str) -> RawBox:
    """Turn COCO's x, y, width, height into corners."""
    x, y, width, height = box_numbers(_field(entry, "bbox", where), where)
    area = finite_number(entry["area"], where) if "area" in entry else None
    return RawBox(where, name, (x, y, x + width, y + height), bool(entry.get("iscrowd", 0)), area)


def _ids(classes: Sequence[str], names: dict[int, str]) -> list[int]:
    """Return the file's id of each class; unlisted classes are numbered on from the highest."""
    by_name = {name: key for key, name in names.items()}
    unlisted = [name for name in classes if name not in by_name]
    by_name |= {name: key for key, name in enumerate(unlisted, start=max(names, default=0) + 1)}
    return [by_name[name] for name in classes]


def _field(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise InputError(f"{where}: lacks {key!r}; add it or remove the entry")
    return entry[key]


def _integer(entry: Any, key: str, where: str) -> int:
    value = _field(entry, key, where)
    if not isinstance(value, int):
        raise InputError(f"{where}: {key!r} must be an integer, got {value!r}; correct the entry")
    return value
