"""Road scenes: a street between houses, fences and trees, with vehicles, under a hazy sky."""

import numpy as np

from depth.scenes import textures
from depth.scenes.pieces import Circle, Part, Piece, build, circle_around, draw_extent, is_free
from depth.scenes.render import Camera, Light, Scene, rotation
from depth.scenes.street import Street, draw_ground, draw_sky
from depth.scenes.surfaces import Surface

FAR = 1e4
"""Half the extent of the ground [m]."""

VEHICLE_RANGE = (4.5, 60.0)
"""Range of the vehicles' distance ahead [m]."""

MAX_VEHICLES = 12
"""Greatest number of vehicles that are tried; those without room are left out."""

CAMERA_ROOM = 3.0
"""Radius around the camera that vehicles leave free [m]."""

END_OF_ROAD = 90.0
"""Distance at which the sides of the road end [m]: beyond the greatest depth."""

CROSSING_SHARE = 0.35
"""Share of roads that end at a row of houses."""

CROSSING_RANGE = (16.0, 75.0)
"""Range of the distance of this row [m]."""

CROSSING_HALF = 40.0
"""Approximate reach of this row on either side [m]."""

WHEELS = (
    Part((0.02, 0, 0.1), (0.98, 0.4, 0.26), textures.dark),
    Part((0.02, 0, 0.74), (0.98, 0.4, 0.9), textures.dark),
)
CAR = (
    Part((0, 0.14, 0), (1, 0.6, 1)),
    Part((0.06, 0.6, 0.12), (0.94, 0.95, 0.72), textures.dark),
    Part((0.05, 0.95, 0.16), (0.95, 1, 0.68)),
    *WHEELS,
)
VAN = (
    Part((0, 0.1, 0), (1, 0.55, 1)),
    Part((0.02, 0.55, 0), (0.98, 1, 0.65)),
    Part((0.04, 0.55, 0.65), (0.96, 0.97, 0.88), textures.dark),
    *(Part(part.low, (part.high[0], 0.28, part.high[2]), part.texture) for part in WHEELS),
)
TRUCK = (
    Part((0, 0.3, 0), (1, 1, 0.75)),
    Part((0.04, 0.12, 0.78), (0.96, 0.45, 1), textures.paint),
    Part((0.06, 0.45, 0.78), (0.94, 0.75, 0.98), textures.dark),
    *(Part((0.04, 0, z), (0.96, 0.28, z + 0.12), textures.dark) for z in (0.05, 0.2, 0.8)),
)
VEHICLES = (
    *(Piece((1.65, 1.9), (1.4, 1.65), (3.7, 4.8), (textures.paint,), CAR),) * 4,
    Piece((1.9, 2.1), (2, 2.6), (4.8, 6), (textures.paint,), VAN),
    Piece((2.3, 2.55), (3.2, 3.9), (7, 11), (textures.paint, textures.white), TRUCK),
)

HOUSE = Piece((7, 24), (4, 17), (8, 12), (textures.facade,))
SHED = Piece((5, 15), (2.6, 5), (5, 8), (textures.bricks, textures.planks, textures.plain))
FENCE = Piece((6, 25), (0.9, 2.2), (0.2, 0.3), (textures.bricks, textures.planks, textures.plain))
HEDGE = Piece((5, 20), (1, 2.5), (0.8, 1.5), (textures.foliage,))
POLE = Piece((0.1, 0.22), (3.5, 8), (0.1, 0.22), (textures.plain, textures.dark))
TRUNK = Piece((0.2, 0.45), (1.8, 3), (0.2, 0.45), (textures.planks,))

ROADSIDES = {
    "town": (HOUSE,) * 5 + (SHED, FENCE),
    "suburb": (HOUSE, SHED, FENCE, HEDGE),
    "country": (FENCE, HEDGE, SHED),
}
"""Kind of a roadside -> pieces that line it."""


def draw_road(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw a road scene from its random state, for pictures of ``size`` (height, width) [px]."""
    street = Street(int(rng.integers(1, 5)), rng.uniform(2.9, 3.7), rng.uniform(1, 4))
    camera = draw_camera(rng, size, street)
    sky = draw_sky(rng)
    haze = sky.horizon * rng.uniform(0.85, 1)
    direction = np.array([rng.normal(), -rng.uniform(0.3, 1.5), rng.normal()])
    light = Light(direction / np.linalg.norm(direction), rng.uniform(0.25, 0.6), haze, rng.uniform(60, 500))
    ground = Surface((0, 1, 0), (FAR, 1, FAR), 0, draw_ground(rng, street))
    things = [*_sides(rng, street), *_crossing(rng), *_vehicles(rng, street), *_poles_and_trees(rng, street)]
    return Scene(camera, (ground, *things), light, sky)


def draw_camera(rng: np.random.Generator, size: tuple[int, int], street: Street) -> Camera:
    """Draw a camera in one of the lanes; the focal length varies, and the vehicles' foreshortening reveals it."""
    height, width = size
    focal = width * rng.uniform(0.5, 0.72)
    side = rng.uniform(-0.8, 0.8) * (street.half - 1)
    turn = np.deg2rad([rng.normal(0, 6), rng.normal(-1, 3), rng.normal(0, 1.2)])
    return Camera(
        fx=focal,
        fy=focal * rng.uniform(0.97, 1.03),
        cx=(width - 1) * rng.uniform(0.44, 0.56),
        cy=(height - 1) * rng.uniform(0.36, 0.6),
        position=np.array([side, -rng.uniform(1.2, 2.6), 0]),
        axes=rotation(yaw=turn[0], pitch=turn[1], roll=turn[2]),
    )


def _sides(rng: np.random.Generator, street: Street) -> list[Surface]:
    """Line both sides with houses and fences from behind the camera to beyond the greatest depth, with gaps."""
    built: list[Surface] = []
    for side in (-1, 1):
        kinds = list(ROADSIDES.values())[rng.integers(len(ROADSIDES))]
        setback, gap = street.half + street.pavement + rng.uniform(0, 7), rng.uniform(1, 14)
        z = rng.uniform(-20, 0)
        while z < END_OF_ROAD:
            piece = kinds[rng.integers(len(kinds))]
            extent = draw_extent(piece, rng)
            x = side * (setback + rng.uniform(0.1, 2) + extent[2] / 2)
            yaw = -side * np.pi / 2 + rng.normal(0, 0.04)
            built += build(piece, rng, extent=extent, at=(x, z + extent[0] / 2), yaw=yaw)
            z += extent[0] + rng.exponential(gap)
    return built


def _crossing(rng: np.random.Generator) -> list[Surface]:
    """Perhaps end the road with a row of houses at a T-junction."""
    if rng.random() > CROSSING_SHARE:
        return []
    z, x = rng.uniform(*CROSSING_RANGE), -CROSSING_HALF - rng.uniform(-8, 8)
    built: list[Surface] = []
    while x < CROSSING_HALF:
        extent = draw_extent(HOUSE, rng)
        built += build(HOUSE, rng, extent=extent, at=(x, z + extent[2] / 2), yaw=np.pi + rng.normal(0, 0.03))
        x += extent[0] + rng.exponential(2)
    return built


def _vehicles(rng: np.random.Generator, street: Street) -> list[Surface]:
    """Place vehicles in the lanes and at the curbs, most of them along the road, the others at any angle."""
    built: list[Surface] = []
    taken: list[Circle] = [(0, 0, CAMERA_ROOM)]
    columns = [(lane + 0.5 - street.lanes / 2) * street.lane for lane in range(street.lanes)]
    columns += [-street.half - 0.6, street.half + 0.6]
    for _ in range(rng.integers(1, MAX_VEHICLES + 1)):
        piece = VEHICLES[rng.integers(len(VEHICLES))]
        extent = draw_extent(piece, rng)
        at = (rng.choice(columns) + rng.normal(0, 0.25), np.exp(rng.uniform(*np.log(VEHICLE_RANGE))) + extent[2] / 2)
        yaw = rng.normal(0, 0.05) + np.pi * rng.integers(2) if rng.random() < 0.75 else rng.uniform(0, 2 * np.pi)
        if is_free(circle_around(at, extent), taken):
            built += build(piece, rng, extent=extent, at=at, yaw=yaw)
            taken.append(circle_around(at, extent))
    return built


def _poles_and_trees(rng: np.random.Generator, street: Street) -> list[Surface]:
    """Place poles and trees on the sidewalks."""
    built: list[Surface] = []
    for piece in (POLE,) * rng.integers(0, 6) + (TRUNK,) * rng.integers(0, 7):
        x = rng.choice((-1, 1)) * (street.half + rng.uniform(0.4, 1) * street.pavement)
        extent, z = draw_extent(piece, rng), rng.uniform(6, 70)
        built += build(piece, rng, extent=extent, at=(x, z), yaw=rng.uniform(0, np.pi))
        if piece is TRUNK:
            across, up = rng.uniform(1, 2.4), rng.uniform(1, 2.6)
            center = (x, -extent[1] - 0.8 * up, z)
            leaves, yaw = textures.foliage(rng), rng.uniform(0, np.pi)
            built.append(Surface(center, (across, up, across), yaw, leaves, "ellipsoid"))
    return built
