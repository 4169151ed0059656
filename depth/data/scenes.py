"""Generated scenes with their true depth, for a first run, tests and comparisons without a download."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.whole_folders import generate_once, holds_set
from odebackbones.errors import InputError, unknown_name

from .depth_files import depth_png, image_png
from .render import Camera, Scene, render
from .road import draw_road
from .room import draw_room

GENERATOR_VERSION = 1
"""Raised when the same parameters give other pictures."""

MIN_SIZE_PX = 32

INDEX_FILE = "scenes.json"
IMAGE_FOLDER = "rgb"
DEPTH_FOLDER = "depth"


@dataclass(frozen=True)
class Preset:
    """A kind of scene.

    Args:
        max_depth_m: What is farther has no depth [m].
        unit: Of the depth files.
        draw: Draws a scene from a random state and for a size (height, width) [px].
    """

    max_depth_m: float
    unit: str
    draw: Callable[[np.random.Generator, tuple[int, int]], Scene]


PRESETS: dict[str, Preset] = {"road": Preset(80, "m/256", draw_road), "room": Preset(10, "mm", draw_room)}


def generate_scenes(folder: Path, *, preset: str, images: int, size: tuple[int, int], seed: int) -> Path:
    """Write ``folder/rgb/000001.png`` ..., ``folder/depth/000001.png`` ... and ``folder/scenes.json``, all or nothing.

    A folder that holds the set of the same parameters is kept as it is. Image i follows from the seed and i alone.
    ``scenes.json`` has these parameters under ``info``, and each image's file name and fx, fy, cx, cy [px] under
    ``images``; the center of the pixel in row v and column u is at (u, v).

    Args:
        folder: Where to; its parents are made.
        preset: A name of :data:`PRESETS`.
        images: How many.
        size: Height and width [px].
        seed: Of numpy's generator.

    Returns:
        The folder.
    """
    check_parameters(preset=preset, images=images, size=size, seed=seed)
    info = {"generator": "scenes", "version": GENERATOR_VERSION, "preset": preset, "images": images}
    info |= {"size": list(size), "seed": seed, "unit": PRESETS[preset].unit}
    holds = partial(holds_set, folder, info, index=INDEX_FILE, kind="scenes")
    return generate_once(folder, partial(_write, info=info), holds=holds)


def check_parameters(*, preset: str, images: int, size: tuple[int, int], seed: int) -> None:
    """Refuse what gives no set of scenes; the arguments are those of :func:`generate_scenes`."""
    if preset not in PRESETS:
        raise unknown_name("preset of --data.scenes", preset, PRESETS)
    if len(size) != 2:
        raise InputError(f"scenes: size must be height and width, got {size}; set --data.scenes")
    least = {
        "images": (images, 1),
        "height": (size[0], MIN_SIZE_PX),
        "width": (size[1], MIN_SIZE_PX),
        "seed": (seed, 0),
    }
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise InputError(f"scenes: {name} must be at least {smallest}, got {value}; set --data.scenes")


def draw_image(
    rng: np.random.Generator, *, preset: str, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, Camera]:
    """Draw a scene and take its picture.

    Args:
        rng: All of it follows from its state.
        preset: A name of :data:`PRESETS`.
        size: Height and width [px].

    Returns:
        The image, ``(H, W, 3)`` uint8 RGB, its depth, ``(H, W)`` float32 [m], 0 in the sky and beyond the preset's
        largest depth, and the camera.
    """
    scene = PRESETS[preset].draw(rng, size)
    colors, depth = render(scene, size)
    return develop(colors, rng), np.where(depth <= PRESETS[preset].max_depth_m, depth, np.float32(0)), scene.camera


def develop(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw what a camera does to colors: exposure, white balance, contrast, a soft lens and noise.

    Args:
        colors: ``(3, H, W)``, about 0 to 1.
        rng: A random state.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    gain = rng.uniform(0.8, 1.25) * rng.uniform(0.93, 1.07, (3, 1, 1))
    image = np.clip(colors * np.float32(gain), 0, 1) ** np.float32(rng.uniform(0.7, 1.1))
    side = np.float32(rng.uniform(0, 0.25))
    image = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    image = (1 - 2 * side) * image[:, 1:-1] + side * (image[:, :-2] + image[:, 2:])
    image = (1 - 2 * side) * image[..., 1:-1] + side * (image[..., :-2] + image[..., 2:])
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 6))
    return np.clip(np.rint(255 * image + grain), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def _write(folder: Path, info: dict[str, Any]) -> None:
    for name in (IMAGE_FOLDER, DEPTH_FOLDER):
        (folder / name).mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    for number in range(1, info["images"] + 1):
        rng = np.random.default_rng([info["seed"], number])
        image, depth, camera = draw_image(rng, preset=info["preset"], size=tuple(info["size"]))
        name = f"{number:06d}.png"
        _write_file(folder / IMAGE_FOLDER / name, image_png(image))
        _write_file(folder / DEPTH_FOLDER / name, depth_png(depth, unit=info["unit"]))
        entries.append({"file_name": name, "fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy})
    _write_file(folder / INDEX_FILE, json.dumps({"info": info, "images": entries}).encode())


def _write_file(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror}); free some disk space or set another --data.root"
        ) from error
