"""Ground and sky of a road scene: the street's surface with its markings, and the sky above."""

from dataclasses import dataclass

import numpy as np

from depth.scenes.textures import (
    Patch,
    Texture,
    band,
    color,
    fade,
    foliage,
    lattice,
    mix,
    noise,
    plain,
    pulses,
    tiles,
)

NOWHERE = 1e4
"""Distance of a crosswalk that is not there [m]."""


@dataclass(frozen=True)
class Street:
    """The road's cross-section.

    Args:
        lanes: Number of lanes.
        lane: Width of a lane [m].
        pavement: Width of the sidewalk on either side [m].
    """

    lanes: int
    lane: float
    pavement: float

    @property
    def half(self) -> float:
        """Half the width between the curbs [m]."""
        return self.lanes * self.lane / 2 + 0.3


def draw_ground(rng: np.random.Generator, street: Street) -> Texture:
    """Draw asphalt with lane markings, and the ground next to it."""
    asphalt = color(rng, saturation=(0, 0.12), value=(0.2, 0.5))
    table, marks, verge = lattice(rng), draw_marks(rng, street), draw_verge(rng, street)
    grain, stains, half = rng.uniform(0.1, 0.35), rng.uniform(0.05, 0.15), street.half

    def texture(patch: Patch) -> np.ndarray:
        x, z, foot_x = patch.a, patch.b, patch.foot_a
        foot = np.maximum(foot_x, patch.foot_b)
        rough = grain * noise(table, x / 0.06, z / 0.06, foot / 0.06) + stains * noise(table, x, z / 4, foot / 2)
        road = mix(asphalt * (1 + rough), 0.9, marks(patch))
        beside = np.flatnonzero(np.abs(x) + foot_x / 2 > half)
        share = band(x[beside], foot_x[beside], -half, half)
        road[:, beside] = mix(verge(patch.part(beside)), road[:, beside], share)
        return road

    return texture


def draw_verge(rng: np.random.Generator, street: Street) -> Texture:
    """Draw a curb, a sidewalk, and grass or gravel beyond."""
    pavement = (tiles, plain, plain)[rng.integers(3)](rng, saturation=(0, 0.15))
    beyond = foliage(rng) if rng.random() < 0.7 else plain(rng, saturation=(0, 0.3))
    kerb, half, side = color(rng, saturation=(0, 0.1), value=(0.5, 0.8)), street.half, street.half + street.pavement

    def texture(patch: Patch) -> np.ndarray:
        x, foot_x = patch.a, patch.foot_a
        colors = mix(beyond(patch), pavement(patch), band(x, foot_x, -side, side))
        return mix(colors, kerb, band(x, foot_x, -half - 0.15, half + 0.15))

    return texture


def draw_marks(rng: np.random.Generator, street: Street) -> Texture:
    """Draw the opacity, ``(N,)``, of dashed lines between lanes, perhaps with solid edge lines and a crosswalk."""
    width, paint = rng.uniform(0.1, 0.18), rng.uniform(0.4, 0.95)
    dash = rng.uniform(2, 5)
    period = dash * rng.uniform(1.6, 3.2)
    edges, start = rng.random() < 0.6, rng.uniform(6, 40) if rng.random() < 0.3 else NOWHERE
    between = [(k - street.lanes / 2) * street.lane for k in range(1, street.lanes)]
    edge = street.lanes * street.lane / 2

    def texture(patch: Patch) -> np.ndarray:
        x, z, foot_x, foot_z = patch.a, patch.b, patch.foot_a, patch.foot_b
        dashes = pulses(z, foot_z, period=period, width=dash)
        cover = np.zeros_like(x)
        for middle in between:
            cover += dashes * band(x, foot_x, middle - width / 2, middle + width / 2)
        for middle in (-edge, edge) if edges else ():
            cover += band(x, foot_x, middle - width / 2, middle + width / 2)
        zebra = pulses(x, foot_x, period=1, width=0.5) * band(z, foot_z, start, start + 3.5)
        return paint * np.clip(np.maximum(cover, zebra), 0, 1) * (0.4 + 0.6 * fade(foot_x))

    return texture


@dataclass(frozen=True, eq=False)
class Sky:
    """A sky with a color at the zenith and one at the horizon, ``(3, 1)`` each, and clouds."""

    zenith: np.ndarray
    horizon: np.ndarray
    clouds: np.ndarray
    cover: float

    def __call__(self, directions: np.ndarray) -> np.ndarray:
        """Return the colors of unit directions, ``(3, N) -> (3, N)``; the clouds lie in a horizontal plane."""
        x, y, z = directions
        up = np.clip(-y, 0.03, 1)
        right, ahead = (4 * along / (up + 0.15) for along in (x, z))
        cloud = 0.7 * noise(self.clouds, right, ahead, 0.1 / up) + 0.3 * noise(
            self.clouds, 3 * right, 3 * ahead, 0.3 / up
        )
        share = np.clip(cloud + self.cover, 0, 1) * np.clip(up * 4, 0, 1)
        return mix(mix(self.horizon, self.zenith, np.sqrt(up)), self.horizon * 1.05, share)


def draw_sky(rng: np.random.Generator) -> Sky:
    """Draw a sky that is anything from clear to overcast."""
    zenith = color(rng, hue=(0.55, 0.62), saturation=(0.1, 0.7), value=(0.5, 0.9))
    horizon = color(rng, hue=(0.05, 0.65), saturation=(0, 0.12), value=(0.7, 1))
    return Sky(zenith, horizon, lattice(rng), rng.uniform(-0.5, 0.6))
