"""Points in space, by geometry; the file read by a parser of PLY's description and not by our own."""

import numpy as np
import pytest
import torch

from depth.point_cloud import back_project, ply, require_intrinsics
from odebackbones import InputError

INTRINSICS = [500.0, 400.0, 3.0, 2.0]


def read_ply(content):
    """P. Bourke's description of the format, as far as needed."""
    head, body = content.split(b"end_header\n", 1)
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[2])
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [(line.split()[2], kinds[line.split()[1]]) for line in lines if line.startswith("property")]
    return np.frombuffer(body, np.dtype(fields), count=count)


def drawn():
    draw = torch.Generator().manual_seed(0)
    depth = 1 + 9 * torch.rand(5, 7, generator=draw)
    depth[0, 0], depth[3, 4] = 0, -1
    return depth, torch.randint(256, (3, 5, 7), generator=draw, dtype=torch.uint8)


def test_points_project_back_onto_their_pixels():
    depth, _ = drawn()
    x, y, z = back_project(depth, INTRINSICS).T
    v, u = np.nonzero(depth.numpy() > 0)
    np.testing.assert_allclose(500 * x / z + 3, u, atol=1e-4)
    np.testing.assert_allclose(400 * y / z + 2, v, atol=1e-4)
    np.testing.assert_array_equal(z, depth.numpy()[v, u])


def test_the_principal_point_lies_straight_ahead():
    depth, _ = drawn()
    points = back_project(depth, INTRINSICS)
    ahead = points[(depth[:2] > 0).sum() + (depth[2, :3] > 0).sum()]
    assert ahead.tolist() == [0, 0, depth[2, 3]]


def test_a_file_has_every_known_pixel_with_its_place_and_color():
    depth, image = drawn()
    vertices = read_ply(ply(depth, image, INTRINSICS))
    assert len(vertices) == 5 * 7 - 2
    points = back_project(depth, INTRINSICS)
    np.testing.assert_array_equal(np.stack([vertices[name] for name in "xyz"], axis=1), points)
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")])
    np.testing.assert_array_equal(colors, image.numpy()[:, depth.numpy() > 0])


@pytest.mark.parametrize("values", [[500.0], [500.0, 0.0, 3.0, 2.0], [500.0, 400.0, 3.0, 2.0, 1.0]])
def test_other_than_four_intrinsics_are_refused(values):
    with pytest.raises(InputError, match=r"predict.intrinsics=\[.*\]: expected fx, fy, cx, cy"):
        require_intrinsics(values, setting="predict.intrinsics")
