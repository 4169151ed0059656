"""A generated detection data set in COCO's format, for first runs, tests and comparisons without a download."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detection.data.draw import OUTLINES, DrawnObject, draw_scene
from engine.atomic_files import generate_if_missing, is_complete
from odebackbones.errors import InputError

GENERATOR_VERSION = 1
"""Version of the generator, raised when the same parameters give different pictures."""

MIN_SIZE_PX = 64

ANNOTATION_FILE = "annotations.json"
IMAGE_FOLDER = "images"


def generate_shapes(folder: Path, *, images: int, size: int, seed: int) -> Path:
    """Write ``folder/images/000001.png`` ... and ``folder/annotations.json``, all or nothing.

    A folder that holds the set of the same parameters is kept as it is. Image i depends only on the seed and i.

    Args:
        folder: Target folder; its parents are created.
        images: Number of images.
        size: Height and width of the images [px].
        seed: Seed of numpy's generator.

    Returns:
        The folder.
    """
    check_parameters(images=images, size=size, seed=seed)
    info = {"generator": "shapes", "version": GENERATOR_VERSION, "images": images, "size": size, "seed": seed}
    return generate_if_missing(folder, partial(_write, info=info), holds=lambda: _holds(folder, info))


def check_parameters(*, images: int, size: int, seed: int) -> None:
    """Refuse parameters for which no set can be generated; the arguments are as in :func:`generate_shapes`."""
    for name, value, least in (("images", images, 1), ("size", size, MIN_SIZE_PX), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"shapes: {name} must be at least {least}, got {value}; set --data.shapes")


def _holds(folder: Path, info: dict[str, Any]) -> bool:
    return is_complete(folder, info, index=ANNOTATION_FILE, kind="shapes")


def _write(folder: Path, info: dict[str, Any]) -> None:
    (folder / IMAGE_FOLDER).mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, info["images"] + 1):
        image, objects = draw_scene(np.random.default_rng([info["seed"], image_id]), info["size"])
        file = folder / IMAGE_FOLDER / f"{image_id:06d}.png"
        if not cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise InputError(f"{file}: cannot be written; free some disk space or set another --data.root")
        entries.append({"id": image_id, "file_name": file.name, "width": info["size"], "height": info["size"]})
        annotations += [_annotation(len(annotations) + i, image_id, drawn) for i, drawn in enumerate(objects, start=1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(OUTLINES, start=1)]
    content = {"info": info, "images": entries, "annotations": annotations, "categories": categories}
    (folder / ANNOTATION_FILE).write_text(json.dumps(content), encoding="utf-8")


def _annotation(annotation_id: int, image_id: int, drawn: DrawnObject) -> dict[str, Any]:
    """Describe an object in COCO's format: the box fits tightly around the mask, covered pixels included."""
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": list(OUTLINES).index(drawn.name) + 1,
        "bbox": [int(value) for value in cv2.boundingRect(drawn.mask)],
        "area": int(drawn.mask.sum()),
        "iscrowd": 0,
    }
