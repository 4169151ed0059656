"""A ray caster in NumPy: pictures of textured boxes and ellipsoids with the true depth of every pixel."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from depth.scenes.surfaces import Geometry, Rays, Surface, geometry, intersect, look_at, rotate
from depth.scenes.textures import Texture, mix

SKY = -1
"""Owner of pixels whose ray meets no surface."""

CONTACT_HEIGHT = 0.8
"""Surfaces with less room than this below them darken the ground [m]."""

CONTACT_REACH = 3.0
"""Reach of a contact shadow, in lengths over which it decays by a factor of e."""

NEAREST = 1e-3
"""Depth up to which a point counts as behind the camera [m]."""

SIGNS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32).T
"""The corners of a box, ``(3, 8)``."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera; the center of the pixel in row v and column u is at (u, v).

    Args:
        fx: Focal length along rows [px].
        fy: Focal length along columns [px].
        cx: Column of the principal point [px].
        cy: Row of the principal point [px].
        position: Position in the world, ``(3,)`` [m].
        axes: The camera's axes (right, down, forward) in the world, as columns, ``(3, 3)``.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    position: np.ndarray
    axes: np.ndarray


@dataclass(frozen=True, eq=False)
class Light:
    """Light from one direction, light from all directions, and haze.

    Args:
        direction: Unit vector toward the light, ``(3,)``.
        ambient: Share of the light that comes from all directions.
        haze: Color of distant air, ``(3, 1)``.
        haze_length: Depth at which 1/e of a surface's color is left [m].
    """

    direction: np.ndarray
    ambient: float
    haze: np.ndarray
    haze_length: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene to render.

    Args:
        camera: Camera that sees the scene.
        surfaces: Surfaces; the first includes the ground, y = 0, on which the others stand.
        light: Light on the surfaces.
        sky: Maps unit directions in the world, ``(3, N)``, to colors, ``(3, N)`` in [0, 1].
    """

    camera: Camera
    surfaces: tuple[Surface, ...]
    light: Light
    sky: Callable[[np.ndarray], np.ndarray]


def rotation(*, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return the axes, ``(3, 3)``, of a camera turned right by yaw, then up by pitch, then clockwise by roll [rad]."""
    (sin_y, sin_p, sin_r), (cos_y, cos_p, cos_r) = np.sin([yaw, pitch, roll]), np.cos([yaw, pitch, roll])
    about_y = np.array([(cos_y, 0, sin_y), (0, 1, 0), (-sin_y, 0, cos_y)])
    about_x = np.array([(1, 0, 0), (0, cos_p, -sin_p), (0, sin_p, cos_p)])
    about_z = np.array([(cos_r, -sin_r, 0), (sin_r, cos_r, 0), (0, 0, 1)])
    return about_y @ about_x @ about_z


def rays_of(camera: Camera, size: tuple[int, int]) -> Rays:
    """Return the rays through the pixels' centers, with directions ``(3, H, W)`` of length 1 along the optical axis."""
    right, down, forward = camera.axes.astype(np.float32).T[..., None, None]
    columns = (np.arange(size[1], dtype=np.float32) - np.float32(camera.cx)) / np.float32(camera.fx)
    rows = (np.arange(size[0], dtype=np.float32) - np.float32(camera.cy)) / np.float32(camera.fy)
    per_pixel = (camera.axes[:, :2] / (camera.fx, camera.fy)).astype(np.float32)
    return Rays(camera.position.astype(np.float32), right * columns + (down * rows[:, None] + forward), per_pixel)


def render(scene: Scene, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Render a scene.

    Args:
        scene: Scene to render.
        size: Height and width [px].

    Returns:
        Colors, ``(3, H, W)`` float32, about 0 to 1, and depth, ``(H, W)`` float32 [m], inf in the sky.
    """
    rays = rays_of(scene.camera, size)
    shapes = geometry(scene.surfaces, rays)
    depth, owner = cast(scene.camera, shapes, rays)
    shadows = contact_shadows(scene.camera, shapes, rays, depth)
    return colors_of(scene, shapes, rays, depth, owner, shadows), depth


def cast(camera: Camera, shapes: Geometry, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest surface at each pixel.

    Returns:
        Depth, ``(H, W)`` float32 [m], inf in the sky, and owner, ``(H, W)``: the number of the surface, or ``SKY``.
    """
    size = rays.directions.shape[1:]
    depth, owner = np.full(size, np.inf, np.float32), np.full(size, SKY, np.int16)
    for number, (rows, columns) in enumerate(windows(camera, shapes, shapes.half, size)):
        if rows.start < rows.stop and columns.start < columns.stop:
            found = intersect(shapes, number, rays.directions[:, rows, columns])
            nearer = found < depth[rows, columns]
            depth[rows, columns][nearer] = found[nearer]
            owner[rows, columns][nearer] = number
    return depth, owner


def windows(camera: Camera, shapes: Geometry, half: np.ndarray, size: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Return the rows and columns that bound each surface in the image.

    For a surface that reaches behind the camera, they extend to the image's border on each side where it has a corner.

    Args:
        camera: Camera that sees the surfaces.
        shapes: The surfaces.
        half: Half the extents of the surfaces along their axes, ``(3, S)`` [m].
        size: Height and width [px].
    """
    offsets = rotate(SIGNS[..., None] * half[:, None], shapes.cos, -shapes.sin)
    corners = np.stack(offsets) + (shapes.center - camera.position[:, None])[:, None]
    x, y, z = np.tensordot(camera.axes.T, corners, 1)
    ahead = z > NEAREST
    reaches_behind, is_ahead = ~ahead.all(0), ahead.any(0)
    ends = []
    for middle, focal, along, pixels in ((camera.cy, camera.fy, y, size[0]), (camera.cx, camera.fx, x, size[1])):
        at = middle + focal * along / np.where(ahead, z, 1)
        low = np.where(reaches_behind & (along.min(0) < 0), 0, np.floor(np.where(ahead, at, np.inf).min(0)))
        high = np.where(reaches_behind & (along.max(0) > 0), pixels, np.ceil(np.where(ahead, at, -np.inf).max(0)) + 1)
        low, high = np.where(is_ahead, low, 0), np.where(is_ahead, high, 0)
        ends.append([slice(*limits) for limits in np.clip([low, high], 0, pixels).astype(int).T.tolist()])
    return list(zip(*ends, strict=True))


def contact_shadows(camera: Camera, shapes: Geometry, rays: Rays, depth: np.ndarray) -> np.ndarray:
    """Return the share of light that low surfaces leave to the ground under and next to them, ``(H, W)``.

    Each surface leaves 1 - 0.55 exp(-q / l) at the distance q to its outline, where l grows with the room below it.
    """
    share = np.ones_like(depth)
    room_below = np.maximum(-shapes.center[1] - shapes.half[1], 0)
    length = 0.12 + 0.5 * room_below
    level = np.array([(1,), (0,), (1,)], np.float32)
    outlines, reach = replace(shapes, center=shapes.center * level), (shapes.half + CONTACT_REACH * length) * level
    depth = np.where(np.isfinite(depth), depth, np.float32(0))
    for number, window in enumerate(windows(camera, outlines, reach, depth.shape)):
        if number and room_below[number] < CONTACT_HEIGHT and share[window].size:
            points = depth[window] * rays.directions[:, *window]
            x, _, z = rotate(points, shapes.cos[number], shapes.sin[number])
            start, extent = shapes.origin[:, number], shapes.half[:, number]
            beside = np.maximum(np.abs(x + start[0]) - extent[0], np.abs(z + start[2]) - extent[2])
            share[window] *= 1 - np.float32(0.55) * np.exp(np.maximum(beside, 0) / -length[number])
    return share


def colors_of(
    scene: Scene, shapes: Geometry, rays: Rays, depth: np.ndarray, owner: np.ndarray, shadows: np.ndarray
) -> np.ndarray:
    """Compute the colors, ``(3, H, W)``, from texture, light, contact shadows on the ground, and haze.

    The light is ambient + (1 - ambient) (1 + cos) / 2, so that all faces are shaded, even in a room.

    Args:
        scene: Scene that is rendered.
        shapes: Surfaces of the scene.
        rays: Rays of its camera.
        depth: ``(H, W)`` [m].
        owner: Number of the surface at each pixel, or ``SKY``, ``(H, W)``.
        shadows: Shadows of :func:`contact_shadows`, ``(H, W)``.
    """
    seen, ends, sky = sorted_by_texture(scene.surfaces, owner.ravel())
    owners, near, directions = owner.ravel()[seen], depth.ravel()[seen], rays.directions.reshape(3, -1)
    patch, cosine = look_at(shapes, owners, near, directions[:, seen], scene.light.direction.astype(np.float32))
    painted = np.empty((3, seen.size), np.float32)
    for texture, rows in ends.items():
        painted[:, rows] = texture(patch.part(rows))
    brightness = scene.light.ambient + (1 - scene.light.ambient) * (0.5 + 0.5 * cosine)
    brightness *= np.where((owners == 0) & (patch.up > 0), shadows.ravel()[seen], 1)
    colors = np.empty_like(directions)
    colors[:, seen] = mix(scene.light.haze, painted * brightness, np.exp(near / np.float32(-scene.light.haze_length)))
    colors[:, sky] = scene.sky(directions[:, sky] / np.linalg.norm(directions[:, sky], axis=0))
    return colors.reshape(3, *depth.shape)


def sorted_by_texture(
    surfaces: tuple[Surface, ...], owner: np.ndarray
) -> tuple[np.ndarray, dict[Texture, slice], np.ndarray]:
    """Sort pixels by texture, as many surfaces share a texture and each call of a texture has a cost.

    Args:
        surfaces: Surfaces of the scene.
        owner: Number of the surface that a pixel sees, or ``SKY``, ``(N,)``.

    Returns:
        The pixels that see a surface; for each texture that is seen, the slice of these that sees it; and the pixels
        that see the sky.
    """
    palette = list(dict.fromkeys(surface.texture for surface in surfaces))
    # The last entry belongs to SKY, which is -1.
    number = np.array([*(palette.index(surface.texture) for surface in surfaces), len(palette)], np.int16)[owner]
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(len(palette) + 1)).tolist()
    slices = {texture: slice(*limits) for texture, limits in zip(palette, pairwise(ends), strict=True)}
    return order[: ends[-1]], {key: rows for key, rows in slices.items() if rows.start < rows.stop}, order[ends[-1] :]
