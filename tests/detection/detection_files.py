"""Writes the tiny files that the tests of detection data read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30


def write_image(path: Path, *, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Write noise, which does not compress: cutting the file in half cuts off pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def voc_object(name: str, box: tuple[object, ...], *, difficult: int = 0) -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{tags}</bndbox></object>"


def kitti_line(name: str, box: tuple[object, ...]) -> str:
    return f"{name} 0.00 0 -0.20 {' '.join(map(str, box))} 1.89 0.48 1.20 1.84 1.47 8.41 0.01"
