"""LiDAR points on the image: by hand, by another formula, and as KITTI's users have them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from depth.data.depth_files import depth_png
from depth.data.velodyne import Calibration, image_size, match_scans, project, read_calibration, read_points
from odebackbones.errors import InputError

LOOKING_AHEAD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""The scanner's axes (forward, left, up) to the camera's (right, down, forward)."""

AHEAD = Calibration({2: np.array([[100.0, 0, 50, 0], [0, 100, 20, 0], [0, 0, 1, 0]])}, LOOKING_AHEAD)
"""A camera at the scanner's place: focal length 100 px, center (50, 20)."""

SIZE = (40, 100)

OBJECT_FILE = """P0: 1 0 0 0 0 1 0 0 0 0 1 0
P2: 700 0 600 45 0 700 180 -0.3 0 0 1 0.005
R0_rect: 0.8 -0.6 0 0.6 0.8 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0.1 0 0 -1 0.2 1 0 0 0.3

"""

CAMERAS_FILE = """calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
R_rect_00: 0.8 -0.6 0 0.6 0.8 0 0 0 1
P_rect_02: 700 0 600 45 0 700 180 -0.3 0 0 1 0.005
P_rect_03: 700 0 600 -330 0 700 180 2.3 0 0 1 0.003
"""

SCANNER_FILE = """calib_time: 15-Mar-2012 11:37:16
R: 0 -1 0 0 0 -1 1 0 0
T: 0.1 0.2 0.3
delta_f: 0.000000e+00 0.000000e+00
"""


@pytest.fixture
def raw_day(tmp_path) -> Path:
    """The calibration of a day of raw recordings."""
    folder = tmp_path / "2011_09_26"
    folder.mkdir()
    (folder / "calib_cam_to_cam.txt").write_text(CAMERAS_FILE)
    (folder / "calib_velo_to_cam.txt").write_text(SCANNER_FILE)
    return folder


def points_of(*positions: tuple[float, float, float]) -> np.ndarray:
    return np.array([[*position, 0.5] for position in positions], dtype=np.float32)


def only_pixel(depth: np.ndarray) -> tuple[int, int, float]:
    [[row, column]] = np.argwhere(depth)
    return int(row), int(column), float(depth[row, column])


@pytest.mark.parametrize(("first_pixel", "row", "column"), [(0, 15, 30), (1, 14, 29)])
def test_a_point_falls_on_the_pixel_computed_by_hand(first_pixel, row, column):
    point = points_of((10, 2, 0.5))  # u = 50 - 100 * 2 / 10 = 30, v = 20 - 100 * 0.5 / 10 = 15
    depth = project(point, AHEAD, SIZE, first_pixel=first_pixel)
    assert (depth.shape, depth.dtype) == (SIZE, np.float32)
    assert only_pixel(depth) == (row, column, 10)


def test_the_pixel_is_the_nearest_one():
    point = points_of((10, 1.96, 0.44))  # u = 30.4, v = 15.6
    assert only_pixel(project(point, AHEAD, SIZE, first_pixel=0)) == (16, 30, 10)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_nearest_point_counts_in_whatever_order(order):
    line_of_sight = points_of((10, 2, 0.5), (20, 4, 1), (40, 8, 2))
    assert only_pixel(project(line_of_sight[list(order)], AHEAD, SIZE, first_pixel=0)) == (15, 30, 10)


def test_points_behind_outside_or_without_a_place_are_dropped():
    behind, left, right = (-10, -2, -0.5), (10, 5.1, 0), (10, -4.96, 0)
    above, below, at_zero = (10, 0, 2.1), (10, 0, -1.96), (0, 0, 0)
    nowhere, endless = (float("nan"), 0, 0), (float("inf"), 0, 0)
    dropped = points_of(behind, left, right, above, below, at_zero, nowhere, endless)
    assert not project(dropped, AHEAD, SIZE, first_pixel=0).any()
    corners = points_of((10, 5, 2), (10, -4.9, -1.9))
    assert np.argwhere(project(corners, AHEAD, SIZE, first_pixel=0)).tolist() == [[0, 0], [39, 99]]
    assert not project(np.empty((0, 4), np.float32), AHEAD, SIZE).any()


def test_counting_pixels_from_one_moves_the_map_by_one():
    points = np.random.default_rng(0).uniform((2, -5, -2, 0), (60, 5, 2, 1), (500, 4)).astype(np.float32)
    from_zero, from_one = (project(points, AHEAD, SIZE, first_pixel=first) for first in (0, 1))
    assert from_zero.any()
    np.testing.assert_array_equal(from_zero[1:, 1:], from_one[:-1, :-1])


@pytest.mark.parametrize("camera", [2, 3])
def test_agrees_with_homogeneous_products_point_by_point(raw_day, camera):
    random = np.random.default_rng(1)
    points = random.uniform((-20, -30, -3, 0), (60, 30, 3, 1), (2000, 4)).astype(np.float32)
    projection = {2: [45, -0.3, 0.005], 3: [-330, 2.3, 0.003]}[camera]
    expected = np.zeros((375, 1242))
    for x, y, z in points[:, :3].astype(float):
        in_camera = np.array([-y + 0.1, -z + 0.2, x + 0.3])
        right, down, ahead = 0.8 * in_camera[0] - 0.6 * in_camera[1], 0.6 * in_camera[0] + 0.8 * in_camera[1], x + 0.3
        distance = ahead + projection[2]
        if distance <= 0:
            continue
        column = round((700 * right + 600 * ahead + projection[0]) / distance) - 1
        row = round((700 * down + 180 * ahead + projection[1]) / distance) - 1
        if 0 <= row < 375 and 0 <= column < 1242 and not 0 < expected[row, column] <= distance:
            expected[row, column] = distance
    assert (expected > 0).sum() > 100
    found = project(points, read_calibration(raw_day), expected.shape, camera=camera)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_both_forms_of_calibration_are_the_same(raw_day, tmp_path):
    (tmp_path / "000000.txt").write_text(OBJECT_FILE)
    of_frame, of_day = read_calibration(tmp_path / "000000.txt"), read_calibration(raw_day)
    assert (sorted(of_frame.projections), sorted(of_day.projections)) == ([0, 2], [2, 3])
    np.testing.assert_array_equal(of_frame.projections[2], [[700, 0, 600, 45], [0, 700, 180, -0.3], [0, 0, 1, 0.005]])
    np.testing.assert_array_equal(of_frame.projections[2], of_day.projections[2])
    np.testing.assert_allclose(of_frame.scanner @ [1, 2, 3, 1], [0.8 * -1.9 - 0.6 * -2.8, -3.38, 1.3, 1])
    np.testing.assert_array_equal(of_frame.scanner, of_day.scanner)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("P2: 700 0", "P2: 700", "expected 12 numbers behind 'P2:', got 700 600"),
        ("P2: 700", "P2: x", "expected 12 numbers behind 'P2:', got x 0 600"),
        ("P2: 700", "P2: nan", "expected 12 numbers behind 'P2:', got nan 0"),
        ("R0_rect:", "R_rect:", "expected 9 numbers behind 'R0_rect:', got nothing"),
        ("Tr_velo_to_cam: 0", "Tr_velo_to_cam:", "expected 12 numbers behind 'Tr_velo_to_cam:', got -1 0"),
    ],
)
def test_a_faulty_calibration_is_refused_by_file_and_line(tmp_path, old, new, says):
    (tmp_path / "000000.txt").write_text(OBJECT_FILE.replace(old, new))
    with pytest.raises(InputError, match=f"000000.txt: {says}"):
        read_calibration(tmp_path / "000000.txt")


def test_missing_calibrations_and_cameras_are_named(raw_day, tmp_path):
    with pytest.raises(InputError, match=r"camera 0: the calibration has no such camera, but 2, 3"):
        project(points_of((10, 0, 0)), read_calibration(raw_day), SIZE, camera=0)
    with pytest.raises(InputError, match=r"none.txt: no such calibration"):
        read_calibration(tmp_path / "none.txt")
    (raw_day / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(InputError, match=r"calib_velo_to_cam.txt: no such calibration"):
        read_calibration(raw_day)
    (tmp_path / "binary.txt").write_bytes(b"P2: \xff\xfe")
    with pytest.raises(InputError, match=r"binary.txt: not a text file .*; download it again"):
        read_calibration(tmp_path / "binary.txt")


def test_points_are_read_as_written(tmp_path):
    points = points_of((1, 2, 3), (-4, 5.5, 0))
    (tmp_path / "000000.bin").write_bytes(points.tobytes())
    found = read_points(tmp_path / "000000.bin")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, points)


@pytest.mark.parametrize("size", [0, 15, 24])
def test_files_of_no_whole_points_are_refused(tmp_path, size):
    (tmp_path / "000000.bin").write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"000000.bin: expected 16 bytes a point .*, got {size} bytes; download"):
        read_points(tmp_path / "000000.bin")
    with pytest.raises(InputError, match=r"none.bin: no such file of LiDAR points"):
        read_points(tmp_path / "none.bin")


def test_an_images_size_is_height_and_width(tmp_path):
    Image.new("RGB", (7, 5)).save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (5, 7)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(InputError, match=r"b.png: can't be read as an image"):
        image_size(tmp_path / "b.png")


@pytest.fixture
def recording(tmp_path) -> Path:
    """Seven scans, and their partners, all empty."""
    for folder, suffix in (("velodyne", "bin"), ("calib", "txt"), ("image_2", "png")):
        (tmp_path / folder).mkdir()
        for i in range(7):
            (tmp_path / folder / f"{i:06d}.{suffix}").touch()
    return tmp_path


def test_frames_are_matched_by_stem(recording, raw_day):
    points, calibrations, images = (recording / folder for folder in ("velodyne", "calib", "image_2"))
    frames = match_scans(points, calibrations, images)
    assert [frame.name for frame in frames] == [f"{i:06d}" for i in range(7)]
    assert {file.stem for file in (frames[3].points, frames[3].calibration, frames[3].image)} == {"000003"}
    [frame] = match_scans(points / "000002.bin", raw_day, images)
    assert (frame.calibration, frame.image) == (raw_day, images / "000002.png")
    frames = match_scans(points, calibrations / "000000.txt", images / "000001.png")
    assert {(frame.calibration.name, frame.image.name) for frame in frames} == {("000000.txt", "000001.png")}


def test_missing_partners_are_named(recording):
    points, calibrations, images = (recording / folder for folder in ("velodyne", "calib", "image_2"))
    (images / "000004.png").unlink()
    with pytest.raises(InputError, match=r"image_2: lacks 000004 \(.*\.png.*\), of which there are points; add or rem"):
        match_scans(points, calibrations, images)
    for i in range(6):
        (calibrations / f"{i:06d}.txt").unlink()
    with pytest.raises(
        InputError, match=r"calib: lacks 000000, 000001, 000002, 000003, 000004, ... and 1 more \(\.txt\)"
    ):
        match_scans(points, calibrations, images)
    with pytest.raises(InputError, match=r"none: no such file or folder"):
        match_scans(recording / "none", calibrations, images)
    with pytest.raises(InputError, match=r"image_2: no files in this folder that end in \.bin"):
        match_scans(images, calibrations, images)


@pytest.mark.shared_data
def test_the_depth_maps_that_came_with_kittis_frames_are_reproduced_exactly(shared_data):
    folder = shared_data / "kitti_object" / "training"
    frames = match_scans(folder / "velodyne", folder / "calib", folder / "image_2")
    assert len(frames) == 2
    for frame in frames:
        points, calibration = read_points(frame.points), read_calibration(frame.calibration)
        written = np.frombuffer(depth_png(project(points, calibration, image_size(frame.image)), unit="m/256"), "u1")
        expected = cv2.imread(str(folder / "depth_2_sparse" / f"{frame.name}.png"), cv2.IMREAD_UNCHANGED)
        assert expected is not None and np.count_nonzero(expected) > 17_000
        np.testing.assert_array_equal(cv2.imdecode(written, cv2.IMREAD_UNCHANGED), expected)
