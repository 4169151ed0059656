"""Generated scenes with their true depth, for first runs, tests and comparisons without a download."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from depth.data.depth_files import depth_png, image_png
from depth.scenes.presets import PRESETS, draw_image
from engine.atomic_files import generate_if_missing, is_complete
from odebackbones.errors import InputError, unknown_name

GENERATOR_VERSION = 1
"""Version number, raised when the same parameters give different pictures."""

MIN_SIZE_PX = 32

INDEX_FILE = "scenes.json"
IMAGE_FOLDER = "rgb"
DEPTH_FOLDER = "depth"


def generate_scenes(folder: Path, *, preset: str, images: int, size: tuple[int, int], seed: int) -> Path:
    """Write ``folder/rgb/000001.png`` ..., ``folder/depth/000001.png`` ... and ``folder/scenes.json``, all or nothing.

    A folder that holds the set with the same parameters is kept as it is. Image i depends on the seed and i only.
    ``scenes.json`` has these parameters under ``info``, and each image's file name and fx, fy, cx, cy [px] under
    ``images``; the center of the pixel in row v and column u is at (u, v).

    Args:
        folder: Target folder; its parents are created.
        preset: A name of :data:`PRESETS`.
        images: Number of images.
        size: Height and width [px].
        seed: Seed of NumPy's generator.

    Returns:
        The folder.
    """
    check_parameters(preset=preset, images=images, size=size, seed=seed)
    info = {"generator": "scenes", "version": GENERATOR_VERSION, "preset": preset, "images": images}
    info |= {"size": list(size), "seed": seed, "unit": PRESETS[preset].unit}
    holds = partial(is_complete, folder, info, index=INDEX_FILE, kind="scenes")
    return generate_if_missing(folder, partial(_write, info=info), holds=holds)


def check_parameters(*, preset: str, images: int, size: tuple[int, int], seed: int) -> None:
    """Refuse parameters that give no set of scenes; the arguments are as in :func:`generate_scenes`."""
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
