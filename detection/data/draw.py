"""Scenes of textured shapes on a muted background: the pictures of :mod:`.shapes`."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Outline = list[np.ndarray]
"""Closed contours in the unit circle, (N, 2) each; the second one, if any, cuts a hole."""

MAX_OBJECTS = 6
EMPTY_SHARE = 0.03
"""Share of scenes without objects."""

DIAMETER_RANGE = (0.18, 0.5)
"""Range of an object's diameter, as a share of the image size."""

MIN_VISIBLE = 0.75
"""Share of an object's pixels that later objects must leave uncovered."""

MAX_TILT = np.pi / 9
"""Largest rotation of an object in either direction [rad]: squares stay squares, and no cross becomes an X."""

HUE_SPREAD = 45
"""Largest distance from the class's hue [degrees]: the hue is only a hint, as the classes' hues are 60 apart."""

PLACEMENT_TRIALS = 20


def _on_circle(count: int, radius: float = 1.0) -> np.ndarray:
    """Return evenly spaced points on a circle, the first at the top, (count, 2)."""
    angles = 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _star() -> Outline:
    points = _on_circle(10)
    points[1::2] *= 0.4
    return [points]


def _cross(arm: float = 0.28) -> Outline:
    corner = np.array([(-arm, -1), (arm, -1), (arm, -arm)]) / np.hypot(1, arm)
    quarter = np.array([(0, 1), (-1, 0)])
    return [np.concatenate([corner @ np.linalg.matrix_power(quarter, turn) for turn in range(4)])]


OUTLINES: dict[str, Callable[[], Outline]] = {
    "circle": lambda: [_on_circle(48)],
    "cross": _cross,
    "ring": lambda: [_on_circle(48), _on_circle(48, 0.55)],
    "square": lambda: [_on_circle(4)],
    "star": _star,
    "triangle": lambda: [_on_circle(3)],
}
"""Class name -> function that returns its outline."""


def _plain(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((size, size))


def _stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 10)
    return ((rows * np.sin(angle) + columns * np.cos(angle)) % period < period / 2).astype(float)


def _dots(size: int, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    period = rng.uniform(6, 10)
    return (np.hypot(rows % period - period / 2, columns % period - period / 2) < period / 3.5).astype(float)


def _grain(size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((size, size))


TEXTURES = (_plain, _stripes, _dots, _grain)
"""Functions that draw the weight of the darker of two shades, (size, size) in [0, 1]."""


@dataclass(frozen=True, eq=False)
class DrawnObject:
    """An object of a scene; ``mask``, (size, size) uint8 in {0, 1}, includes its covered pixels."""

    name: str
    mask: np.ndarray


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[DrawnObject]]:
    """Draw a scene of 0 to ``MAX_OBJECTS`` objects, each inside the image and at least ``MIN_VISIBLE`` of it uncovered.

    Args:
        rng: Random generator, whose state determines the whole scene.
        size: Height and width of the image [px].

    Returns:
        The image, (size, size, 3) uint8, and its objects from the back to the front.
    """
    image = draw_background(rng, size)
    objects: list[DrawnObject] = []
    if rng.random() < EMPTY_SHARE:
        return image, objects
    for _ in range(rng.integers(1, MAX_OBJECTS + 1)):
        placed = _place(rng, size, objects)
        if placed is not None:
            objects.append(placed)
            image = paint(image, placed, rng)
    return image, objects


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a gradient between two muted colors with clutter lines and noise, (size, size, 3) uint8."""
    rows, columns = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (0.5 + 0.5 * (np.cos(angle) * (columns - 0.5) + np.sin(angle) * (rows - 0.5)))[..., None]
    start, end = (_color(rng, saturation=(0, 0.35), value=(0.15, 0.55)) for _ in range(2))
    image = np.ascontiguousarray(start + ramp * (end - start))
    for _ in range(rng.integers(0, 8)):
        a, b = rng.integers(0, size, (2, 2)).tolist()
        color = _color(rng, saturation=(0, 0.5), value=(0.1, 0.7)).tolist()
        cv2.line(image, a, b, color, thickness=int(rng.integers(1, 3)))
    return _to_bytes(image + rng.normal(0, rng.uniform(2, 8), image.shape))


def paint(image: np.ndarray, drawn: DrawnObject, rng: np.random.Generator) -> np.ndarray:
    """Return the image with the object painted in a random texture of a bright color near its class's hue."""
    size, center = image.shape[0], 360 * list(OUTLINES).index(drawn.name) / len(OUTLINES)
    color = _color(rng, hue=(center - HUE_SPREAD, center + HUE_SPREAD), saturation=(0.6, 1), value=(0.75, 1))
    shade = TEXTURES[rng.integers(len(TEXTURES))](size, rng)[..., None]
    surface = color * (1 - rng.uniform(0.15, 0.4) * shade)
    return np.where(drawn.mask[..., None] > 0, _to_bytes(surface), image)


def _place(rng: np.random.Generator, size: int, behind: list[DrawnObject]) -> DrawnObject | None:
    """Place a random shape where those behind it stay visible; return None if no trial finds such a place."""
    for _ in range(PLACEMENT_TRIALS):
        name = list(OUTLINES)[rng.integers(len(OUTLINES))]
        mask = draw_mask(name, rng, size)
        if _leaves_visible([*behind, DrawnObject(name, mask)]):
            return DrawnObject(name, mask)
    return None


def draw_mask(name: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw the mask of a shape of random size, rotation and place in the image, (size, size) uint8 in {0, 1}."""
    radius = size * np.exp(rng.uniform(*np.log(DIAMETER_RANGE))) / 2
    angle = rng.uniform(-MAX_TILT, MAX_TILT)
    center = rng.uniform(radius, size - 1 - radius, 2)
    rotation = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    contours = [np.rint(center + radius * contour @ rotation).astype(np.int32) for contour in OUTLINES[name]()]
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, contours, 1)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return mask


def _leaves_visible(objects: list[DrawnObject]) -> bool:
    """Whether enough of every object stays visible, if each is covered by the objects after it in the list."""
    covered = np.zeros_like(objects[-1].mask)
    for drawn in reversed(objects):
        if (drawn.mask * (1 - covered)).sum() < MIN_VISIBLE * drawn.mask.sum():
            return False
        covered |= drawn.mask
    return True


def _color(
    rng: np.random.Generator,
    *,
    saturation: tuple[float, float],
    value: tuple[float, float],
    hue: tuple[float, float] = (0, 360),
) -> np.ndarray:
    """Draw a color by hue, saturation and value, RGB in 0..255, (3,)."""
    hsv = np.array([[[rng.uniform(*hue) % 360, rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    return 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(float)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
