"""Tiny data sets in the formats that the readers read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detection_files import HEIGHT, WIDTH, write_image


@pytest.fixture
def coco_content() -> dict[str, Any]:
    """Three images, categories with gaps and in no order, a crowd; image 7 has no object."""
    return {
        "images": [
            {"id": image_id, "file_name": f"{image_id}.png", "width": WIDTH, "height": HEIGHT} for image_id in (5, 7, 9)
        ],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 90, "bbox": [1, 2, 10, 20], "area": 150.5, "iscrowd": 0},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [4, 5, 6, 7], "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 17, "bbox": [0, 0, 40, 30], "area": 1200, "iscrowd": 0},
        ],
        "categories": [{"id": 90, "name": "brush"}, {"id": 3, "name": "car"}, {"id": 17, "name": "cat"}],
    }


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write a content's JSON and its images; return the arguments of ``read_coco``."""

    def write(content: Any) -> tuple[Path, Path]:
        (tmp_path / "images").mkdir(exist_ok=True)
        for entry in content["images"]:
            write_image(tmp_path / "images" / entry["file_name"])
        (tmp_path / "instances.json").write_text(json.dumps(content))
        return tmp_path / "instances.json", tmp_path / "images"

    return write


@pytest.fixture
def write_voc(tmp_path: Path) -> Callable[..., Path]:
    """Write a VOC set ``train`` from the objects of each image; return its root."""

    def write(objects: dict[str, str], *, suffix: str = ".jpg") -> Path:
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        for folder in ("Annotations", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True)
        for name, content in objects.items():
            write_image(tmp_path / "JPEGImages" / f"{name}{suffix}")
            (tmp_path / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{content}</annotation>")
        (tmp_path / "ImageSets/Main/train.txt").write_text("\n".join(objects) + "\n")
        return tmp_path

    return write


@pytest.fixture
def write_kitti(tmp_path: Path) -> Callable[..., Path]:
    """Write KITTI label files from the lines of each frame; return their root."""

    def write(frames: dict[str, list[str]]) -> Path:
        (tmp_path / "label_2").mkdir()
        for frame, lines in frames.items():
            write_image(tmp_path / "image_2" / f"{frame}.png")
            (tmp_path / "label_2" / f"{frame}.txt").write_text("\n".join(lines))
        return tmp_path

    return write
