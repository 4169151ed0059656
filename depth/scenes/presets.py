"""Kinds of scenes, and pictures of them as a camera takes them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from depth.scenes.render import Camera, Scene, render
from depth.scenes.road import draw_road
from depth.scenes.room import draw_room


@dataclass(frozen=True)
class Preset:
    """A kind of scene.

    Args:
        max_depth_m: Greatest depth that is recorded [m].
        unit: Unit of the depth files.
        draw: Draws a scene from a random state for a size (height, width) [px].
    """

    max_depth_m: float
    unit: str
    draw: Callable[[np.random.Generator, tuple[int, int]], Scene]


PRESETS: dict[str, Preset] = {"road": Preset(80, "m/256", draw_road), "room": Preset(10, "mm", draw_room)}


def draw_image(
    rng: np.random.Generator, *, preset: str, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, Camera]:
    """Draw a scene and take its picture.

    Args:
        rng: Random generator, whose state determines everything.
        preset: A name of :data:`PRESETS`.
        size: Height and width [px].

    Returns:
        The image, ``(H, W, 3)`` uint8 RGB, its depth, ``(H, W)`` float32 [m], 0 in the sky and beyond the preset's
        greatest depth, and the camera.
    """
    scene = PRESETS[preset].draw(rng, size)
    colors, depth = render(scene, size)
    return develop(colors, rng), np.where(depth <= PRESETS[preset].max_depth_m, depth, np.float32(0)), scene.camera


def develop(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply random effects of a camera to colors: exposure, white balance, contrast, a soft lens and noise.

    Args:
        colors: ``(3, H, W)``, about 0 to 1.
        rng: Random generator.

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
