"""Boxes and ellipsoids with closed-form ray intersections, and the points on them that pixels see."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from depth.scenes.textures import Patch, Texture

Shape = Literal["box", "inside", "ellipsoid"]
"""A box or an ellipsoid seen from outside, or the inside of a box."""

LARGEST_FOOT = np.float32(1e3)
"""Extent of a pixel on a face that it sees edge-on [m]."""

Components = Sequence[np.ndarray] | np.ndarray
"""The x, y and z components of vectors."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A surface in a scene. World axes: x right, y down, z forward [m]; the ground is y = 0.

    Args:
        center: Center in the world [m].
        half: Half the extents along its own axes [m].
        yaw: Angle by which its axes are turned about y: its z-axis points along (sin yaw, 0, cos yaw) [rad].
        texture: Colors of the surface.
        shape: Form of the surface.
    """

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float
    texture: Texture
    shape: Shape = "box"


@dataclass(frozen=True, eq=False)
class Rays:
    """Lines ``origin + depth * direction``, scaled so that ``depth`` is the z-coordinate in the camera's frame.

    Args:
        origin: Common origin, ``(3,)`` [m].
        directions: Directions, ``(3, ...)``.
        per_pixel: Change of a direction per pixel to the right and downward, ``(3, 2)``.
    """

    origin: np.ndarray
    directions: np.ndarray
    per_pixel: np.ndarray


@dataclass(frozen=True, eq=False)
class Geometry:
    """S surfaces as arrays, and a camera's rays in their coordinates.

    Args:
        shapes: Shape of each surface, ``(S,)``.
        center: Centers, ``(3, S)`` [m].
        half: Half the extents, ``(3, S)`` [m].
        cos: Cosine of the yaw, ``(S,)``.
        sin: Sine of the yaw, ``(S,)``.
        origin: Origin of the rays relative to each center, along each surface's axes, ``(3, S)`` [m].
        per_pixel: ``per_pixel`` of :class:`Rays` along each surface's axes, ``(2, 3, S)``.
    """

    shapes: np.ndarray
    center: np.ndarray
    half: np.ndarray
    cos: np.ndarray
    sin: np.ndarray
    origin: np.ndarray
    per_pixel: np.ndarray


Number = np.ndarray | np.floating | float
"""One number for all, or an array of numbers."""


def rotate(vectors: Components, cos: Number, sin: Number) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Express world vectors along axes that are turned about y by a yaw; with -sin, the other way round.

    Args:
        vectors: x, y and z of the vectors, in arrays of the same shape.
        cos: Cosine of the yaw, in a shape that broadcasts with the vectors.
        sin: Sine of the yaw, likewise.
    """
    x, y, z = vectors
    return cos * x - sin * z, y, sin * x + cos * z


def geometry(surfaces: Sequence[Surface], rays: Rays) -> Geometry:
    """Collect the surfaces in arrays."""
    center, half = (np.array(v, np.float32).T for v in zip(*((s.center, s.half) for s in surfaces), strict=True))
    yaw = np.array([surface.yaw for surface in surfaces])
    cos, sin = np.cos(yaw).astype(np.float32), np.sin(yaw).astype(np.float32)
    origin = np.stack(rotate(rays.origin[:, None] - center, cos, sin))
    per_pixel = np.stack([np.broadcast_arrays(*rotate(moved[:, None], cos, sin)) for moved in rays.per_pixel.T])
    return Geometry(np.array([surface.shape for surface in surfaces]), center, half, cos, sin, origin, per_pixel)


def slabs(origin: np.ndarray, directions: Components, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where rays enter and leave a box's slabs (Kay & Kajiya, Ray Tracing Complex Scenes, 1986).

    The depths are max_k near_k and min_k far_k over the pairs of faces k; a line meets the box if the first is less.
    """
    near, far = np.float32(-np.inf), np.float32(np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start, direction, extent in zip(origin, directions, half, strict=True):
            inverse = np.float32(1) / direction
            middle, reach = -start * inverse, extent * np.abs(inverse)
            near, far = np.maximum(near, middle - reach), np.minimum(far, middle + reach)
    return near, far  # pyright: ignore[reportReturnType]


def enter_box(origin: np.ndarray, directions: Components, half: np.ndarray) -> np.ndarray:
    """Return the depth at which rays from outside meet a box [m]; inf where they miss it.

    Args:
        origin: Origin relative to the box's center, along its axes, ``(3,)`` [m].
        directions: Directions along the box's axes.
        half: Half the box's extents, ``(3,)`` [m].
    """
    near, far = slabs(origin, directions, half)
    return np.where((near < far) & (near > 0), near, np.float32(np.inf))


def leave_box(origin: np.ndarray, directions: Components, half: np.ndarray) -> np.ndarray:
    """Return the depth at which rays from inside meet a box; otherwise like :func:`enter_box`."""
    near, far = slabs(origin, directions, half)
    return np.where((near < far) & (far > 0), far, np.float32(np.inf))


def enter_ellipsoid(origin: np.ndarray, directions: Components, half: np.ndarray) -> np.ndarray:
    """Return the smaller root of |origin + depth direction| = 1, in units of the semi-axes; like :func:`enter_box`."""
    start, scaled = origin / half, [direction / extent for direction, extent in zip(directions, half, strict=True)]
    square = sum(direction * direction for direction in scaled)
    middle = -sum(at * direction for at, direction in zip(start, scaled, strict=True)) / square
    discriminant = middle * middle - (start @ start - 1) / square
    depth = middle - np.sqrt(np.maximum(discriminant, 0))
    return np.where((discriminant > 0) & (depth > 0), depth, np.float32(np.inf))


INTERSECTIONS: dict[Shape, Callable[[np.ndarray, Components, np.ndarray], np.ndarray]] = {
    "box": enter_box,
    "inside": leave_box,
    "ellipsoid": enter_ellipsoid,
}


def intersect(shapes: Geometry, number: int, directions: np.ndarray) -> np.ndarray:
    """Return the depth ``(...)`` [m] at which rays along ``directions`` ``(3, ...)`` meet a surface; inf for none."""
    along = rotate(directions, shapes.cos[number], shapes.sin[number])
    return INTERSECTIONS[shapes.shapes[number]](shapes.origin[:, number], along, shapes.half[:, number])


@dataclass(frozen=True, eq=False)
class Faces:
    """The face of its box that each of N pixels sees: a horizontal one, one across the x-axis, or else one across z.

    Args:
        level: Pixels that see a horizontal face, ``(N,)`` bool.
        sideways: Pixels that see a face across the x-axis, ``(N,)`` bool.
    """

    level: np.ndarray
    sideways: np.ndarray

    def split(self, vectors: Components) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Split vectors along the box's axes into components across the face, along ``a`` and along ``b``, ``(N,)``."""
        x, y, z = vectors
        across = np.where(self.level, y, np.where(self.sideways, x, z))
        return across, np.where(self.sideways, z, x), np.where(self.level, z, y)


def look_at(
    shapes: Geometry, owner: np.ndarray, depth: np.ndarray, directions: np.ndarray, light: np.ndarray
) -> tuple[Patch, np.ndarray]:
    """Find the points on the surfaces that N pixels see; an ellipsoid has the coordinates of the box around it.

    Args:
        shapes: The surfaces.
        owner: Number of the surface that a pixel sees, ``(N,)``.
        depth: Depth of the pixels, ``(N,)`` [m].
        directions: Directions of the rays, ``(3, N)``.
        light: Unit vector toward the light, ``(3,)``.

    Returns:
        The coordinates on the faces, and the cosine of the angle between the normals and the light, ``(N,)``.
    """
    along = rotate(directions, shapes.cos.take(owner), shapes.sin.take(owner))
    point = [start.take(owner) + depth * direction for start, direction in zip(shapes.origin, along, strict=True)]
    outward = [np.abs(at) / half.take(owner) for at, half in zip(point, shapes.half, strict=True)]
    level = outward[1] > np.maximum(outward[0], outward[2])
    faces = Faces(level, ~level & (outward[0] > outward[2]))
    foot_a, foot_b = extents(faces, along, depth, [moved.take(owner, 1) for moved in shapes.per_pixel])
    across, a, b = faces.split(point)
    side, height = np.sign(across), -shapes.center[1].take(owner) - point[1]
    side = np.where((shapes.shapes == "inside").take(owner), -side, side)
    patch = Patch(a, np.where(level, b, height), foot_a, foot_b, np.where(level, -side, 0))
    toward = np.stack(np.broadcast_arrays(*rotate(light[:, None], shapes.cos, shapes.sin)))
    cosine = side * faces.split(toward.take(owner, 1))[0]
    rounded = np.flatnonzero((shapes.shapes == "ellipsoid").take(owner))
    normal = np.stack([at[rounded] for at in point]) / shapes.half.take(owner[rounded], 1) ** 2
    cosine[rounded] = (normal * toward.take(owner[rounded], 1)).sum(0) / np.linalg.norm(normal, axis=0)
    return patch, cosine


def extents(
    faces: Faces, along: Components, depth: np.ndarray, per_pixel: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the extents of N pixels on the faces that they see, along ``a`` and along ``b``, ``(N,)`` [m].

    The point where a ray d meets a plane moves by depth (d' - d d'_n / d_n) when d changes by d', with n across the
    plane (Igehy, Tracing Ray Differentials, SIGGRAPH 1999). The moves per pixel to the right and downward are added.

    Args:
        faces: Faces that the pixels see.
        along: Directions of the pixels' rays along the surfaces' axes.
        depth: Depth of the pixels, ``(N,)`` [m].
        per_pixel: Changes of the directions per pixel along the surfaces' axes, ``(3, N)`` to the right and downward.
    """
    across, along_a, along_b = faces.split(along)
    feet = np.zeros((2, depth.size), np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        for moved in per_pixel:
            moved_across, moved_a, moved_b = faces.split(moved)
            slope = moved_across / across
            feet += np.abs(moved_a - along_a * slope), np.abs(moved_b - along_b * slope)
    foot_a, foot_b = np.fmin(depth * feet, LARGEST_FOOT)
    return foot_a, foot_b
