import cv2
import numpy as np
import pytest

from depth.scenes import render as render_module
from depth.scenes import textures
from depth.scenes.pieces import Part, Piece, build, circle_around, draw_extent, is_free
from depth.scenes.presets import PRESETS
from depth.scenes.render import SKY, Camera, Light, Scene, cast, contact_shadows, rays_of, render, rotation
from depth.scenes.surfaces import Surface, geometry, look_at
from depth.scenes.textures import TABLE, Patch, band, cells, lattice, noise, plain, pulses

SIZE = (60, 80)
GRAY = plain(np.random.default_rng(0), value=(0.5, 0.5))
GROUND = Surface((0, 1, 0), (1e4, 1, 1e4), 0, GRAY)
BLACK_SKY = np.zeros_like


def _camera(*, yaw: float = 0, pitch: float = 0, roll: float = 0, height: float = 1.6) -> Camera:
    axes = rotation(yaw=yaw, pitch=pitch, roll=roll)
    return Camera(fx=70, fy=65, cx=37.3, cy=25.8, position=np.array([0.4, -height, 0.2]), axes=axes)


def _scene(camera: Camera, *things: Surface, ground: Surface = GROUND) -> Scene:
    light = Light(np.array([0.6, -0.8, 0]), 0.3, np.ones((3, 1), np.float32), np.inf)
    return Scene(camera, (ground, *things), light, BLACK_SKY)


def _cast(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    rays = rays_of(scene.camera, SIZE)
    return cast(scene.camera, geometry(scene.surfaces, rays), rays)


def _points(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """Back-project a depth map by the intrinsics, to the world, (H, W, 3); the sky to the camera itself."""
    depth = np.where(np.isfinite(depth), depth, 0)
    rows, columns = np.indices(depth.shape)
    seen = np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(depth.shape)], -1)
    return (depth[..., None] * seen) @ camera.axes.T + camera.position


def _along_axes(surface: Surface, points: np.ndarray) -> np.ndarray:
    """Points of the world, (..., 3), from a surface's center along its own axes, in its half extents."""
    right = np.array([np.cos(surface.yaw), 0, -np.sin(surface.yaw)])
    ahead = np.array([np.sin(surface.yaw), 0, np.cos(surface.yaw)])
    offset = points - np.array(surface.center)
    return np.stack([offset @ right, offset[..., 1], offset @ ahead], -1) / np.array(surface.half)


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (0.1, 0), (-0.2, 0), (-0.05, 0.15)])
def test_bare_ground_has_the_depth_of_the_horizon_formula(pitch, roll):
    camera = _camera(yaw=0.7, pitch=pitch, roll=roll)
    depth, owner = _cast(_scene(camera))
    rows, columns = np.indices(SIZE)
    x, y = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    falls = np.cos(pitch) * (np.cos(roll) * y + np.sin(roll) * x) - np.sin(pitch)
    expected = 1.6 / np.where(falls > 1e-3, falls, np.nan)
    assert depth[falls > 1e-3] == pytest.approx(expected[falls > 1e-3], rel=1e-4)
    assert np.isinf(depth[falls < 0]).all()
    assert (owner[falls < 0] == SKY).all()


def test_a_camera_turns_right_up_and_clockwise():
    assert rotation(yaw=np.pi / 2, pitch=0, roll=0)[:, 2] == pytest.approx([1, 0, 0])
    assert rotation(yaw=0, pitch=np.pi / 2, roll=0)[:, 2] == pytest.approx([0, -1, 0])
    assert rotation(yaw=0, pitch=0, roll=np.pi / 2)[:, 0] == pytest.approx([0, 1, 0])
    axes = rotation(yaw=0.3, pitch=0.2, roll=0.1)
    assert axes.T @ axes == pytest.approx(np.eye(3))


def test_back_projected_pixels_of_a_box_lie_on_its_faces_and_reach_its_edges():
    box = Surface((0.9, -0.7, 5), (0.8, 0.7, 1.5), 0.5, GRAY)
    camera = _camera(pitch=-0.1, roll=0.05)
    depth, owner = _cast(_scene(camera, box))
    points = _along_axes(box, _points(camera, depth)[owner == 1])
    assert np.abs(points).max(1) == pytest.approx(1, abs=1e-4)
    front = points[points[:, 2] < -0.9999]
    assert len(front) > 100
    assert front[:, :2].min(0) == pytest.approx([-1, -1], abs=0.15)
    assert front[:, :2].max(0) == pytest.approx([1, 1], abs=0.15)


@pytest.mark.parametrize("yaw", [0, 0.5, 2.1])
def test_a_box_covers_the_hull_of_its_projected_corners(yaw):
    box = Surface((-0.5, -0.9, 6), (0.8, 0.7, 1.5), yaw, GRAY)
    camera = _camera(pitch=-0.05, roll=0.1)
    _, owner = _cast(_scene(camera, box))
    signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, 8).T * np.array(box.half)
    turn = np.array([(np.cos(yaw), 0, np.sin(yaw)), (0, 1, 0), (-np.sin(yaw), 0, np.cos(yaw))])
    x, y, z = ((signs @ turn.T + np.array(box.center) - camera.position) @ camera.axes).T
    corners = np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], 1).astype(np.float32)
    hull = cv2.convexHull(corners)
    inside = np.array([[cv2.pointPolygonTest(hull, (u, v), True) for u in range(SIZE[1])] for v in range(SIZE[0])])
    assert (inside > 0.01).sum() > 200
    assert ((owner == 1) == (inside > 0))[np.abs(inside) > 0.01].all()


def test_back_projected_pixels_of_an_ellipsoid_lie_on_its_near_side():
    ball = Surface((0.3, -2, 6), (1.2, 0.8, 1.5), 0.9, GRAY, "ellipsoid")
    camera = _camera(yaw=0.1)
    depth, owner = _cast(_scene(camera, ball))
    points = _points(camera, depth)[owner == 1]
    own = _along_axes(ball, points)
    assert len(points) > 300
    assert np.linalg.norm(own, axis=1) == pytest.approx(1, abs=1e-3)
    assert (_along_axes(ball, np.array(camera.position)) @ own.T).min() > 1 - 1e-3


def test_the_inside_of_a_room_is_seen_up_to_its_walls():
    room = Surface((0, -1.25, 0), (2, 1.25, 3), 0.3, GRAY, "inside")
    camera = _camera(yaw=0.8, pitch=-0.2)
    depth, owner = _cast(_scene(camera, ground=room))
    assert (owner == 0).all()
    assert np.abs(_along_axes(room, _points(camera, depth))).max(-1) == pytest.approx(1, abs=1e-4)


def test_the_nearer_surface_hides_the_other_whatever_their_order():
    near, far = (Surface((0, -1, z), (1, 1, 0.5), 0, GRAY) for z in (4, 8))
    one, other = (_cast(_scene(_camera(), *things)) for things in ((near, far), (far, near)))
    assert np.array_equal(one[0], other[0])
    assert one[0][one[1] == 1] == pytest.approx(3.3, rel=0.01)
    swapped = np.array([SKY, 0, 2, 1])
    assert np.array_equal(swapped[one[1] + 1], other[1])


@pytest.mark.parametrize("preset", PRESETS)
def test_looking_only_where_surfaces_can_be_changes_nothing(preset, monkeypatch):
    scenes = [PRESETS[preset].draw(np.random.default_rng(i), SIZE) for i in range(5)]
    in_windows = [_cast(scene) for scene in scenes]
    everywhere = (slice(0, SIZE[0]), slice(0, SIZE[1]))
    monkeypatch.setattr(render_module, "windows", lambda camera, shapes, *_: [everywhere] * len(shapes.shapes))
    for scene, (depth, owner) in zip(scenes, in_windows, strict=True):
        assert np.array_equal(_cast(scene)[0], depth)
        assert np.array_equal(_cast(scene)[1], owner)


def test_coordinates_on_faces_are_meters_and_pixels_have_their_extent():
    box = Surface((0.9, -0.7, 5), (0.8, 0.7, 1.5), 0.5, GRAY)
    scene = _scene(_camera(pitch=-0.1, roll=0.05), box)
    rays = rays_of(scene.camera, SIZE)
    shapes = geometry(scene.surfaces, rays)
    depth, owner = cast(scene.camera, shapes, rays)
    seen = np.isfinite(depth)
    patch, _ = look_at(shapes, owner[seen], depth[seen], rays.directions[:, seen], np.array([0, -1, 0], np.float32))
    ground = owner[seen] == 0
    points = _points(scene.camera, depth)[seen]
    assert patch.a[ground] == pytest.approx(points[ground, 0], abs=1e-2, rel=1e-3)
    assert patch.b[ground] == pytest.approx(points[ground, 2], abs=1e-2, rel=1e-3)
    upright = ~ground & (patch.up == 0)
    assert patch.b[upright] == pytest.approx(-points[upright, 1], abs=1e-3)
    assert (patch.up[ground] == 1).all()
    for values, feet in ((patch.a, patch.foot_a), (patch.b, patch.foot_b)):
        grid, foot = np.full(SIZE, np.nan), np.full(SIZE, np.nan)
        grid[seen], foot[seen] = values, feet
        moves = np.abs(np.gradient(grid, axis=1)) + np.abs(np.gradient(grid, axis=0))
        near = (depth < 6) & (owner == 0) & (cv2.erode((owner == 0).astype(np.uint8), np.ones((3, 3))) > 0)
        assert near.sum() > 500
        assert foot[near] == pytest.approx(moves[near], rel=0.1)


def test_light_falls_on_the_faces_that_look_at_it():
    white = plain(np.random.default_rng(0), saturation=(0, 0), value=(1, 1))
    box = Surface((0.4, -1.6, 4), (0.5, 0.5, 0.5), np.pi / 4, lambda patch: np.ones((3, patch.a.size), np.float32))
    scene = _scene(_camera(), box, ground=Surface(GROUND.center, GROUND.half, 0, white))
    colors, depth = render(scene, SIZE)
    _, owner = _cast(scene)
    values = colors[0][owner == 1]
    right, left = (0.3 + 0.7 * (0.5 + 0.5 * side * 0.6 / np.sqrt(2)) for side in (1, -1))
    assert sorted(np.unique(values.round(4))) == pytest.approx([left, right], abs=1e-3)
    assert np.isinf(depth[owner == SKY]).all()
    assert (colors[:, owner == SKY] == 0).all()


def test_contact_shadows_darken_the_ground_at_a_box_and_not_beyond():
    box = Surface((0.4, -0.5, 5), (0.5, 0.5, 0.5), 0, GRAY)
    raised = Surface((0.4, -2, 5), (0.5, 0.5, 0.5), 0, GRAY)
    camera = _camera(pitch=-0.2)
    rays = rays_of(camera, SIZE)
    for thing, strength in ((box, 0.55), (raised, 0)):
        shapes = geometry((GROUND, thing), rays)
        depth, owner = cast(camera, shapes, rays)
        share = contact_shadows(camera, shapes, rays, depth)[owner == 0]
        points = _points(camera, depth)[owner == 0]
        gap = np.maximum(np.abs(points[:, 0] - 0.4), np.abs(points[:, 2] - 5)) - 0.5
        assert share == pytest.approx(1 - strength * np.exp(-np.maximum(gap, 0) / 0.12), abs=0.03)
        assert (share[gap > 1] == 1).all()


def test_regular_patterns_are_averaged_over_the_pixel():
    x = np.linspace(-3, 3, 101, dtype=np.float32)
    foot = np.linspace(0.01, 2, 101, dtype=np.float32)
    samples = x[:, None] + foot[:, None] * (np.arange(2000) + 0.5 - 1000) / 2000
    assert band(x, foot, -0.5, 1) == pytest.approx(((samples > -0.5) & (samples < 1)).mean(1), abs=2e-3)
    assert pulses(x, foot, period=0.7, width=0.3) == pytest.approx((samples % 0.7 < 0.3).mean(1), abs=5e-3)


def test_noise_runs_smoothly_through_the_lattices_values_and_fades_in_the_distance():
    table, none = lattice(np.random.default_rng(0)), np.zeros(TABLE)
    whole = np.arange(TABLE, dtype=np.float32)
    assert noise(table, whole - TABLE, whole[::-1], none) == pytest.approx(
        table[whole.astype(int), TABLE - 1 - whole.astype(int)]
    )
    assert np.array_equal(cells(table, whole, whole + TABLE), np.diag(table))
    fine = np.linspace(0, 5, 5001, dtype=np.float32)
    along = noise(table, fine, np.float32(0.3) + 0 * fine, 0 * fine)
    assert np.abs(np.diff(along)).max() < 0.004
    assert np.ptp(along) > 0.5
    assert (noise(table, fine, fine, 2 + 0 * fine) == 0).all()


def test_a_piece_fills_its_extent_at_its_place_with_its_front_where_it_should_be():
    rng = np.random.default_rng(0)
    parts = (Part((0, 0, 0), (1, 0.5, 1)), Part((0.2, 0.5, 0.9), (0.8, 1, 1), plain))
    piece = Piece((1, 2), (0.5, 0.6), (3, 4), (plain,), parts, (0.2, 0.2))
    extent = draw_extent(piece, rng)
    assert all(low <= value <= high for value, (low, high) in zip(extent, ((1, 2), (0.5, 0.6), (3, 4)), strict=True))
    body, top = build(piece, rng, extent=extent, at=(5, 7), yaw=np.pi / 2)
    assert body.center == pytest.approx((5, -0.2 - extent[1] / 4, 7))
    assert body.half == pytest.approx(extent / 2 * (1, 0.5, 1))
    assert top.center == pytest.approx((5 + 0.45 * extent[2], -0.2 - 0.75 * extent[1], 7))
    assert top.texture is not body.texture
    x, z, radius = circle_around((5, 7), extent)
    assert radius == pytest.approx(np.hypot(extent[0], extent[2]) / 2)
    assert is_free((x + 1.6 * radius, z, radius), [(x, z, radius)])
    assert not is_free((x + 1.4 * radius, z, radius), [(x, z, radius)])


@pytest.mark.parametrize("name", ["bricks", "facade", "foliage", "planks", "stripes", "tiles"])
def test_textures_are_colors_with_detail_nearby_that_fades_far_away(name):
    texture = getattr(textures, name)(np.random.default_rng(1))
    a, b = (np.float32(5) * np.random.default_rng(i).random(4000, np.float32) for i in (1, 2))
    spreads = []
    for foot in (0.005, 20):
        feet = np.full_like(a, foot)
        colors = texture(Patch(a, b, feet, feet, np.zeros_like(a)))
        assert colors.shape == (3, 4000)
        assert colors.dtype == np.float32
        assert -0.2 < colors.min() <= colors.max() < 1.6
        spreads.append(colors.std(1).max())
    assert spreads[0] > 0.02
    assert spreads[1] < spreads[0] / 3
