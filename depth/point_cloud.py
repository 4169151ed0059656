"""Depth maps as colored point clouds."""

import numpy as np
from torch import Tensor

from odebackbones.errors import InputError

HEADER = """ply
format binary_little_endian 1.0
comment camera coordinates in meters: x right, y down, z forward
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
"""

VERTEX = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])


def back_project(depth: Tensor, intrinsics: list[float]) -> np.ndarray:
    r"""Return the points of a depth map's pixels: :math:`z (u - c_x) / f_x,\; z (v - c_y) / f_y,\; z`.

    Args:
        depth: ``(H, W)`` [m], distance along the optical axis; not above 0 where it is unknown.
        intrinsics: fx, fy, cx, cy [px], with pixel centers at integer coordinates.

    Returns:
        ``(N, 3)`` float32 [m], for the pixels of known depth, row by row.
    """
    fx, fy, cx, cy = intrinsics
    z = depth.numpy()
    v, u = np.nonzero(z > 0)
    z = z[v, u]
    return np.stack([z * (u - cx) / fx, z * (v - cy) / fy, z], axis=1).astype(np.float32)


def ply(depth: Tensor, image: Tensor, intrinsics: list[float]) -> bytes:
    """Build a binary PLY file of the points with the image's colors.

    Args:
        depth: ``(H, W)`` [m].
        image: ``(3, H, W)`` uint8.
        intrinsics: fx, fy, cx, cy [px].
    """
    points, colors = back_project(depth, intrinsics), image[:, depth > 0].T.numpy()
    vertices = np.empty(len(points), VERTEX)
    for i, name in enumerate(("x", "y", "z")):
        vertices[name] = points[:, i]
    for i, name in enumerate(("red", "green", "blue")):
        vertices[name] = colors[:, i]
    return HEADER.format(count=len(points)).encode("ascii") + vertices.tobytes()


def require_intrinsics(values: list[float] | None, *, setting: str) -> None:
    """Refuse values that are not fx, fy, cx, cy."""
    if values is not None and (len(values) != 4 or min(values[:2]) <= 0):
        raise InputError(f"{setting}={values}: expected fx, fy, cx, cy [px], the first two above 0")
