"""Colors as functions of a surface's coordinates in meters, so that their scale and perspective reveal the depth.

Every pattern is averaged over the pixel: regular patterns in closed form, as box-filtered pulse trains, and noise by
fading where a pixel is larger than its waves (Ebert et al., Texturing and Modeling, 3rd edition, 2003, chapter 2).
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Patch:
    """The part of a surface that N pixels see.

    Args:
        a: Coordinate along the face, ``(N,)`` [m].
        b: Height above the ground, or the other coordinate on a horizontal face, ``(N,)`` [m].
        foot_a: Extent of the pixel along ``a``, ``(N,)`` [m].
        foot_b: Extent of the pixel along ``b``, ``(N,)`` [m].
        up: 1 where the face is turned up, -1 where it is turned down and 0 where it is vertical, ``(N,)``.
    """

    a: np.ndarray
    b: np.ndarray
    foot_a: np.ndarray
    foot_b: np.ndarray
    up: np.ndarray

    def part(self, rows: slice | np.ndarray) -> "Patch":
        """Select pixels by a slice or by their indices."""
        return Patch(self.a[rows], self.b[rows], self.foot_a[rows], self.foot_b[rows], self.up[rows])


Texture = Callable[[Patch], np.ndarray]
"""Function from a patch to its colors, ``(3, N)`` in [0, 1]."""

TextureFactory = Callable[[np.random.Generator], Texture]

TABLE = 32
"""Number of cells after which the values of a lattice repeat: a power of two."""

LAST = TABLE - 1
"""Bit mask that gives the remainder of a whole number divided by ``TABLE``."""


def color(rng: np.random.Generator, *, saturation: Range, value: Range, hue: Range = (0, 1)) -> np.ndarray:
    """Draw an RGB color, ``(3, 1)``, by hue, saturation and value, each in [0, 1]."""
    shares = zip((hue, saturation, value), rng.random(3).tolist(), strict=True)
    h, s, v = (low + share * (high - low) for (low, high), share in shares)
    return np.array(colorsys.hsv_to_rgb(h % 1, s, v), np.float32)[:, None]


def lattice(rng: np.random.Generator) -> np.ndarray:
    """Draw the values for :func:`noise` and :func:`cells`, ``(TABLE, TABLE)`` in [-1, 1]."""
    return rng.random((TABLE, TABLE), np.float32) * 2 - 1


def cells(table: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Look up a random value for each cell of integer coordinates, ``(N,)`` in [-1, 1]."""
    return table.take((i.astype(np.int32) & LAST) * TABLE + (j.astype(np.int32) & LAST))


def noise(table: np.ndarray, x: np.ndarray, y: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Evaluate value noise with waves of about 2 cells, smooth between random values at integers: ``(N,)`` in [-1, 1].

    Args:
        table: Values of :func:`lattice`.
        x: First coordinate, ``(N,)``, in cells.
        y: Second coordinate, ``(N,)``, in cells.
        foot: Extent of a pixel, ``(N,)``, in cells.
    """
    i, j = np.floor(x), np.floor(y)
    u, v = (t * t * (3 - 2 * t) for t in (x - i, y - j))
    column, row = i.astype(np.int32), j.astype(np.int32)
    left, right = (column & LAST) * TABLE, (column + 1 & LAST) * TABLE
    above, below = row & LAST, row + 1 & LAST
    left_side = table.take(left + above) * (1 - v) + table.take(left + below) * v
    right_side = table.take(right + above) * (1 - v) + table.take(right + below) * v
    return fade(foot) * (left_side * (1 - u) + right_side * u)


def fade(foot: np.ndarray) -> np.ndarray:
    """Return the contrast that noise keeps where a pixel is ``foot`` cells large: 1 to 0."""
    return np.clip(1.25 - 0.75 * foot, 0, 1)


def band(x: np.ndarray, foot: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the share of a pixel of size ``foot`` that lies between ``low`` and ``high``."""
    return (np.clip(x + foot / 2, low, high) - np.clip(x - foot / 2, low, high)) / foot


def pulses(x: np.ndarray, foot: np.ndarray, *, period: float, width: float) -> np.ndarray:
    """Return the share of a pixel of size ``foot`` that lies in the first ``width`` of a period."""

    def cover(end: np.ndarray) -> np.ndarray:
        whole = np.floor(end / period)
        return whole * width + np.minimum(end - whole * period, width)

    return (cover(x + foot / 2) - cover(x - foot / 2)) / foot


def mix(below: np.ndarray, above: np.ndarray | float, share: np.ndarray | float) -> np.ndarray:
    """Blend a color ``above``, ``(3, N)`` or ``(3, 1)``, over a color ``below``, with opacity ``share``, ``(N,)``."""
    return below + share * (above - below)


def plain(rng: np.random.Generator, *, saturation: Range = (0, 0.5), value: Range = (0.35, 0.9)) -> Texture:
    """Draw a color with soft stains, like plaster or paint."""
    base, table = color(rng, saturation=saturation, value=value), lattice(rng)
    scale, strength = rng.uniform(0.2, 1), rng.uniform(0.02, 0.12)

    def texture(patch: Patch) -> np.ndarray:
        foot = np.maximum(patch.foot_a, patch.foot_b)
        return base * (1 + strength * noise(table, patch.a / scale, patch.b / scale, foot / scale))

    return texture


def paint(rng: np.random.Generator) -> Texture:
    """Draw a bright or dark color, like a vehicle's."""
    return plain(rng, saturation=(0, 0.75), value=(0.08, 0.95))


def dark(rng: np.random.Generator) -> Texture:
    """Draw a nearly black color, like tires or a window in daylight."""
    return plain(rng, saturation=(0, 0.3), value=(0.05, 0.25))


def white(rng: np.random.Generator) -> Texture:
    """Draw a nearly white color, like linen or a ceiling."""
    return plain(rng, saturation=(0, 0.12), value=(0.75, 1))


def bricks(rng: np.random.Generator) -> Texture:
    """Draw courses of bricks or blocks, each in its own tone, with mortar between them."""
    length, height = rng.uniform(0.22, 0.6), rng.uniform(0.07, 0.3)
    joint = rng.uniform(0.01, 0.03)
    stone = color(rng, hue=(-0.03, 0.12), saturation=(0.1, 0.65), value=(0.3, 0.75))
    mortar, table, spread = color(rng, saturation=(0, 0.1), value=(0.4, 0.8)), lattice(rng), rng.uniform(0.05, 0.25)

    def texture(patch: Patch) -> np.ndarray:
        course = np.floor(patch.b / height)
        along = patch.a + (course % 2) * (length / 2)
        tone = cells(table, np.floor(along / length), course)
        tone = tone * fade(np.maximum(patch.foot_a / length, patch.foot_b / height))
        inside = pulses(along, patch.foot_a, period=length, width=length - joint)
        inside = inside * pulses(patch.b, patch.foot_b, period=height, width=height - joint)
        return mix(mortar, stone * (1 + spread * tone), inside)

    return texture


def tiles(rng: np.random.Generator, *, saturation: Range = (0, 0.5)) -> Texture:
    """Draw a checkerboard of square tiles in two colors, which may be alike, with joints."""
    size, joint = rng.uniform(0.15, 0.6), rng.uniform(0.004, 0.012)
    first = color(rng, saturation=saturation, value=(0.3, 0.95))
    second = first * rng.uniform(0.55, 1)
    grout = first * rng.uniform(0.4, 0.7)

    def texture(patch: Patch) -> np.ndarray:
        even_a, even_b = (
            2 * pulses(x, foot, period=2 * size, width=size) - 1
            for x, foot in ((patch.a, patch.foot_a), (patch.b, patch.foot_b))
        )
        inside = pulses(patch.a, patch.foot_a, period=size, width=size - joint)
        inside = inside * pulses(patch.b, patch.foot_b, period=size, width=size - joint)
        return mix(grout, mix(first, second, 0.5 + 0.5 * even_a * even_b), inside)

    return texture


def stripes(rng: np.random.Generator) -> Texture:
    """Draw vertical stripes in two colors, like wallpaper or cloth."""
    period, share = rng.uniform(0.08, 0.4), rng.uniform(0.3, 0.7)
    first = color(rng, saturation=(0, 0.5), value=(0.4, 0.95))
    second = mix(first, color(rng, saturation=(0, 0.5), value=(0.3, 0.95)), rng.uniform(0.2, 0.8))

    def texture(patch: Patch) -> np.ndarray:
        return mix(first, second, pulses(patch.a, patch.foot_a, period=period, width=share * period))

    return texture


def planks(rng: np.random.Generator) -> Texture:
    """Draw wooden boards along ``b``, each in its own tone, with grain."""
    width, table = rng.uniform(0.07, 0.22), lattice(rng)
    wood = color(rng, hue=(0.04, 0.11), saturation=(0.2, 0.65), value=(0.25, 0.85))
    spread = rng.uniform(0.05, 0.2)

    def texture(patch: Patch) -> np.ndarray:
        board = np.floor(patch.a / width)
        tone = spread * fade(patch.foot_a / width) * cells(table, board, np.floor(patch.b / 2 + board * 0.37))
        grain = 0.08 * noise(table, patch.a / 0.02, patch.b / 0.4, np.maximum(patch.foot_a / 0.02, patch.foot_b / 0.4))
        inside = pulses(patch.a, patch.foot_a, period=width, width=width * 0.96)
        return wood * (1 + tone + grain) * (0.5 + 0.5 * inside)

    return texture


def facade(rng: np.random.Generator) -> Texture:
    """Draw a house front: stories with a grid of windows, some lit or curtained, in a wall of plaster or brick."""
    wall = bricks(rng) if rng.random() < 0.35 else plain(rng, saturation=(0, 0.35), value=(0.4, 0.95))
    storey, bay = rng.uniform(2.7, 3.5), rng.uniform(1.8, 3.6)
    width, height = bay * rng.uniform(0.35, 0.65), storey * rng.uniform(0.4, 0.6)
    sill = rng.uniform(0.7, 1)
    glass, table = color(rng, hue=(0.5, 0.65), saturation=(0, 0.4), value=(0.1, 0.35)), lattice(rng)
    frame = color(rng, saturation=(0, 0.3), value=(0.2, 1))

    def texture(patch: Patch) -> np.ndarray:
        up, border = patch.b - sill, 0.09
        opening = pulses(patch.a, patch.foot_a, period=bay, width=width)
        opening = opening * pulses(up, patch.foot_b, period=storey, width=height) * (patch.up == 0)
        pane = pulses(patch.a - border, patch.foot_a, period=bay, width=width - 2 * border)
        pane = pane * pulses(up - border, patch.foot_b, period=storey, width=height - 2 * border)
        tone = cells(table, np.floor(patch.a / bay), np.floor(up / storey))
        return mix(wall(patch), mix(frame, glass * (1 + 0.8 * tone), pane), opening)

    return texture


def foliage(rng: np.random.Generator) -> Texture:
    """Draw leaves: light and dark green in clumps of two sizes."""
    base, table = color(rng, hue=(0.17, 0.36), saturation=(0.3, 0.7), value=(0.2, 0.55)), lattice(rng)

    def texture(patch: Patch) -> np.ndarray:
        foot = np.maximum(patch.foot_a, patch.foot_b)
        shade = sum(0.3 * noise(table, patch.a / s, patch.b / s, foot / s) for s in (0.5, 0.12))
        return base * (1 + shade)

    return texture
