"""Room scenes: a room seen from inside, with furniture along its walls and on its floor."""

import numpy as np

from depth.scenes import textures
from depth.scenes.pieces import Circle, Part, Piece, build, circle_around, draw_extent, is_free
from depth.scenes.render import Camera, Light, Scene, rotation
from depth.scenes.surfaces import Surface, rotate
from depth.scenes.textures import Patch, Texture, TextureFactory, band, mix

WIDTH_RANGE, LENGTH_RANGE, HEIGHT_RANGE = (2.3, 6.0), (2.6, 8.0), (2.3, 3.0)
"""Ranges of a room's width, length and height [m]: the diagonal of its floor stays below 10 m."""

CLEARANCE = 0.5
"""Least distance of the camera from the walls [m]."""

CAMERA_ROOM = 1.0
"""Radius around the camera that furniture leaves free [m]."""

LEGS = tuple(Part((x, 0, z), (x + 0.05, 0.94, z + 0.07)) for x in (0.02, 0.93) for z in (0.02, 0.91))
TABLE = (Part((0, 0.94, 0), (1, 1, 1)), *LEGS)
CHAIR_LEGS = tuple(Part((x, 0, z), (x + 0.09, 0.46, z + 0.09)) for x in (0.02, 0.89) for z in (0.02, 0.89))
CHAIR = (Part((0, 0.46, 0), (1, 0.52, 1)), Part((0.04, 0.52, 0), (0.96, 1, 0.09)), *CHAIR_LEGS)
SOFA = (
    Part((0, 0.06, 0), (1, 0.5, 1)),
    Part((0, 0.5, 0), (1, 1, 0.26)),
    *(Part((x, 0.06, 0), (x + 0.1, 0.72, 1)) for x in (0, 0.9)),
)
BED = (
    Part((0, 0, 0), (1, 0.35, 1), textures.planks),
    Part((0.01, 0.35, 0.02), (0.99, 0.6, 0.99)),
    Part((0.08, 0.6, 0.03), (0.92, 0.74, 0.22), textures.white),
    Part((0, 0, 0), (1, 1, 0.03), textures.planks),
)
SHELF = (
    *(Part((x, 0, 0), (x + 0.03, 1, 1)) for x in (0, 0.97)),
    *(Part((0.03, y, 0), (0.97, y + 0.015, 1)) for y in (0.02, 0.26, 0.5, 0.74, 0.985)),
    Part((0.03, 0, 0), (0.97, 1, 0.05), textures.dark),
    *(Part((0.05, y, 0.1), (0.75, y + 0.16, 0.85), textures.stripes) for y in (0.035, 0.275, 0.515)),
)
FRAMED = (Part(), Part((0.07, 0.07, 0.9), (0.93, 0.93, 1.1), textures.paint))
WINDOW = (
    Part((0, 0, 0), (1, 1, 1)),
    *(Part((x, 0.06, 0.5), (x + 0.4, 0.94, 1.1), textures.white) for x in (0.06, 0.54)),
)
DOOR = (Part(), Part((0.08, 0.47, 1), (0.14, 0.5, 2.4), textures.dark))

WOODEN: tuple[TextureFactory, ...] = (textures.planks, textures.planks, textures.white, textures.plain)
WOVEN: tuple[TextureFactory, ...] = (textures.paint, textures.stripes, textures.plain)

FLOORS = (textures.planks, textures.planks, textures.tiles, textures.plain)
WALLS = (textures.plain, textures.plain, textures.plain, textures.stripes, textures.bricks, textures.tiles)

ALONG_WALLS = (
    Piece((0.8, 2.2), (1.8, 2.15), (0.5, 0.65), WOODEN),
    Piece((0.8, 1.8), (0.7, 1.0), (0.4, 0.5), WOODEN),
    Piece((0.7, 1.2), (1.6, 2.1), (0.28, 0.38), WOODEN, SHELF),
    Piece((1.4, 2.2), (0.75, 0.9), (0.8, 0.95), WOVEN, SOFA),
    Piece((0.9, 1.8), (0.75, 1.0), (2.0, 2.1), WOVEN, BED),
    Piece((1.1, 1.6), (0.71, 0.76), (0.6, 0.8), WOODEN, TABLE),
)
ON_WALLS = (
    Piece((0.85, 0.95), (2.0, 2.1), (0.05, 0.06), WOODEN, DOOR),
    Piece((0.9, 1.8), (1.1, 1.4), (0.05, 0.06), (textures.white,), WINDOW, (0.85, 1.0)),
    Piece((0.3, 1.1), (0.3, 0.8), (0.03, 0.04), (textures.dark, textures.planks), FRAMED, (1.2, 1.5)),
)
ON_FLOOR = (
    Piece((0.9, 1.8), (0.71, 0.76), (0.7, 0.95), WOODEN, TABLE),
    Piece((0.7, 1.2), (0.38, 0.48), (0.5, 0.7), WOODEN, TABLE),
    *(Piece((0.4, 0.48), (0.82, 0.98), (0.42, 0.5), (*WOODEN, *WOVEN), CHAIR),) * 3,
    Piece((0.3, 0.6), (0.25, 0.6), (0.3, 0.6), (textures.planks, textures.plain, textures.paint)),
    Piece((0.8, 1.0), (0.75, 0.9), (0.8, 0.95), WOVEN, SOFA),
)


def draw_room(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw a room scene from its random state, for pictures of ``size`` (height, width) [px]."""
    width, length, height = (rng.uniform(*extent) for extent in (WIDTH_RANGE, LENGTH_RANGE, HEIGHT_RANGE))
    stage = Surface((0, -height / 2, 0), (width / 2, height / 2, length / 2), 0, draw_surfaces(rng), "inside")
    camera = draw_camera(rng, size, stage)
    taken: list[Circle] = [(camera.position[0], camera.position[2], CAMERA_ROOM)]
    along = _at_walls(rng, stage, ALONG_WALLS, number=int(rng.integers(3, 13)), taken=taken)
    on_floor = _on_floor(rng, stage, taken)
    things = [*along, *on_floor, *_at_walls(rng, stage, ON_WALLS, number=int(rng.integers(2, 9)))]
    direction = np.array([rng.normal(), -rng.uniform(0.2, 1.2), rng.normal()])
    light = Light(direction / np.linalg.norm(direction), rng.uniform(0.2, 0.5), np.zeros((3, 1), np.float32), np.inf)
    return Scene(camera, (stage, *things), light, np.zeros_like)


def draw_camera(rng: np.random.Generator, size: tuple[int, int], stage: Surface) -> Camera:
    """Draw a camera that stands away from the walls and looks at another such point of the room."""
    height, width = size
    reach = np.array(stage.half)[[0, 2]] - CLEARANCE
    place, target = rng.uniform(-reach, reach, (2, 2))
    yaw = np.arctan2(*(target - place))
    pitch, roll = np.deg2rad([rng.normal(-8, 8), rng.normal(0, 2)])
    focal = width * rng.uniform(0.68, 0.88)
    return Camera(
        fx=focal,
        fy=focal * rng.uniform(0.97, 1.03),
        cx=(width - 1) * rng.uniform(0.44, 0.56),
        cy=(height - 1) * rng.uniform(0.42, 0.58),
        position=np.array([place[0], -rng.uniform(0.9, 1.9), place[1]]),
        axes=rotation(yaw=yaw, pitch=pitch, roll=roll),
    )


def draw_surfaces(rng: np.random.Generator) -> Texture:
    """Draw a floor, a ceiling, and walls with a baseboard."""
    floor = FLOORS[rng.integers(len(FLOORS))](rng)
    wall = WALLS[rng.integers(len(WALLS))](rng)
    ceiling, board = textures.white(rng), WOODEN[rng.integers(len(WOODEN))](rng)
    board_height = rng.uniform(0.06, 0.12)

    def upright(patch: Patch) -> np.ndarray:
        return mix(wall(patch), board(patch), band(patch.b, patch.foot_b, -1, board_height))

    def texture(patch: Patch) -> np.ndarray:
        colors = np.empty((3, patch.a.size), np.float32)
        for part, seen in ((floor, patch.up > 0), (ceiling, patch.up < 0), (upright, patch.up == 0)):
            pixels = np.flatnonzero(seen)
            colors[:, pixels] = part(patch.part(pixels))
        return colors

    return texture


def _at_walls(
    rng: np.random.Generator,
    stage: Surface,
    pieces: tuple[Piece, ...],
    *,
    number: int,
    taken: list[Circle] | None = None,
) -> list[Surface]:
    """Place pieces with their backs to walls; if ``taken`` is given, only where they are clear of its circles."""
    built: list[Surface] = []
    for _ in range(number):
        piece = pieces[rng.integers(len(pieces))]
        extent = draw_extent(piece, rng)
        at, yaw = _at_wall(rng, stage, extent)
        circle = circle_around(at, extent)
        if taken is None or is_free(circle, taken):
            built += build(piece, rng, extent=extent, at=at, yaw=yaw)
            if taken is not None:
                taken.append(circle)
    return built


def _on_floor(rng: np.random.Generator, stage: Surface, taken: list[Circle]) -> list[Surface]:
    built: list[Surface] = []
    for _ in range(rng.integers(1, 9)):
        piece = ON_FLOOR[rng.integers(len(ON_FLOOR))]
        extent = draw_extent(piece, rng)
        radius = np.hypot(extent[0], extent[2]) / 2
        x, z = rng.uniform(-1, 1, 2) * (np.array(stage.half)[[0, 2]] - radius)
        if is_free((x, z, radius), taken):
            built += build(piece, rng, extent=extent, at=(x, z), yaw=rng.uniform(0, 2 * np.pi))
            taken.append((x, z, radius))
    return built


def _at_wall(rng: np.random.Generator, stage: Surface, extent: np.ndarray) -> tuple[tuple[float, float], float]:
    """Draw a position, x and z [m], and a yaw [rad] with the back against one of the walls."""
    turns = int(rng.integers(4))
    yaw = turns * np.pi / 2
    half_length, distance = (stage.half[0], stage.half[2]) if turns % 2 == 0 else (stage.half[2], stage.half[0])
    along = rng.uniform(-1, 1) * max(half_length - extent[0] / 2, 0)
    x, _, z = rotate(np.array([along, 0, extent[2] / 2 - distance]), np.cos(yaw), -np.sin(yaw))
    return (float(x), float(z)), yaw
