"""Vehicles, furniture and the like: boxes in fixed proportions and realistic sizes."""

from dataclasses import dataclass

import numpy as np

from depth.scenes.surfaces import Surface, rotate
from depth.scenes.textures import Range, TextureFactory

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """A box in fractions of its piece: along the width, up from the bottom, and along the depth from the back.

    Args:
        low: One corner.
        high: The opposite corner.
        texture: Texture of the part, drawn once for all parts that name it; None for the piece's own.
    """

    low: Triple = (0, 0, 0)
    high: Triple = (1, 1, 1)
    texture: TextureFactory | None = None


@dataclass(frozen=True)
class Piece:
    """Something that stands or hangs in a scene.

    Args:
        width: Range of the width, from side to side [m].
        height: Range of the height [m].
        depth: Range of the depth, from back to front [m].
        textures: Textures, one of which is drawn.
        parts: Parts that form the piece.
        elevation: Range of the height of its bottom above the ground [m].
    """

    width: Range
    height: Range
    depth: Range
    textures: tuple[TextureFactory, ...]
    parts: tuple[Part, ...] = (Part(),)
    elevation: Range = (0, 0)


Circle = tuple[float, float, float]
"""x, z and radius of a circle on the ground that something stands in [m]."""

OVERLAP = 0.75
"""Least distance of two circles, as a share of the sum of their radii: long things may stand side by side."""


def draw_extent(piece: Piece, rng: np.random.Generator) -> np.ndarray:
    """Draw the width, height and depth of a piece, ``(3,)`` [m]."""
    low, high = np.array([piece.width, piece.height, piece.depth]).T
    return low + (high - low) * rng.random(3)


def circle_around(at: tuple[float, float], extent: np.ndarray) -> Circle:
    """Return the circle in which a piece of this extent, ``(3,)`` [m], stands."""
    return (*at, float(np.hypot(extent[0], extent[2])) / 2)


def is_free(circle: Circle, taken: list[Circle]) -> bool:
    """Whether there is room for another circle."""
    x, z, radius = circle
    return all(np.hypot(x - other, z - ahead) > OVERLAP * (radius + reach) for other, ahead, reach in taken)


def build(
    piece: Piece, rng: np.random.Generator, *, extent: np.ndarray, at: tuple[float, float], yaw: float
) -> list[Surface]:
    """Place a piece.

    Args:
        piece: Piece to place.
        rng: Generator that draws its texture and elevation.
        extent: Width, height and depth, ``(3,)`` [m].
        at: x and z of its center in the world [m].
        yaw: Angle of its front direction, from the z-axis to the right [rad].
    """
    own = piece.textures[rng.integers(len(piece.textures))](rng)
    textures = {None: own} | {part.texture: part.texture(rng) for part in piece.parts if part.texture}
    base = np.array([at[0], -rng.uniform(*piece.elevation), at[1]])
    low, high = (np.array(ends) for ends in zip(*((part.low, part.high) for part in piece.parts), strict=True))
    offsets = ((low + high) / 2 - (0.5, 0, 0.5)) * extent * (1, -1, 1)
    centers = base + np.stack(rotate(offsets.T, np.cos(yaw), -np.sin(yaw)), 1)
    halves = (high - low) / 2 * extent
    return [
        Surface(tuple(center), tuple(half), yaw, textures[part.texture])
        for part, center, half in zip(piece.parts, centers.tolist(), halves.tolist(), strict=True)
    ]
