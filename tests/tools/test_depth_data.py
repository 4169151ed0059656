"""The tool that makes files of depth: what it writes and says, and that bad input leaves nothing behind."""

import cv2
import numpy as np
import pytest
from PIL import Image
from tool_runs import run

from depth.data.depth_files import read_depth

CALIBRATION = """P2: 100 0 50 0 0 100 20 0 0 0 1 0
P3: 100 0 50 -100 0 100 20 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0
"""

VELODYNE = ["velodyne", "--points=velodyne", "--calib=calib", "--images=image_2"]
NYU = ["nyu", "--mat=nyu.mat", "--splits=splits.mat"]


@pytest.fixture
def scans(tmp_path):
    """The working directory of two scans of a point each, at (u, v) = (30, 15) and 10 m, and (30, 15) and 20 m."""
    for folder in ("velodyne", "calib", "image_2"):
        (tmp_path / folder).mkdir()
    for name, nearer in (("000000", 1), ("000001", 2)):
        point = np.array([10, 2, 0.5, 0], np.float32) * nearer
        (tmp_path / f"velodyne/{name}.bin").write_bytes(point.tobytes())
        (tmp_path / f"calib/{name}.txt").write_text(CALIBRATION)
        Image.new("RGB", (50, 20)).save(tmp_path / f"image_2/{name}.png")
    return tmp_path


@pytest.fixture
def nyu(tmp_path):
    """The working directory of two images in MATLAB's files."""
    h5py = pytest.importorskip("h5py", reason="the extra 'nyu' is not installed")
    scipy_io = pytest.importorskip("scipy.io", reason="the extra 'nyu' is not installed")
    with h5py.File(tmp_path / "nyu.mat", "w") as file:
        file["images"] = np.full((2, 3, 8, 6), 9, np.uint8)
        file["depths"] = np.full((2, 8, 6), 2.5, np.float32)
        file["rawDepths"] = np.zeros((2, 8, 6), np.float32)
    scipy_io.savemat(tmp_path / "splits.mat", {"trainNdxs": [[2]], "testNdxs": [[1]]})
    return tmp_path


def pixels(file):
    depth = read_depth(file, unit="m/256")
    return [(int(row), int(column), float(depth[row, column])) for row, column in np.argwhere(depth)]


def test_scans_become_depth_maps_of_the_images_size(scans):
    done = run("depth_data", *VELODYNE, "--out=depth", cwd=scans)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "frames: 2, pixels with depth: 0.1%, results: depth\n"
    written = cv2.imread(str(scans / "depth/000001.png"), cv2.IMREAD_UNCHANGED)
    assert written is not None and (written.shape, written.dtype) == ((20, 50), np.uint16)
    assert written[14, 29] == 20 * 256
    assert pixels(scans / "depth/000000.png") == [(14, 29, 10)]


def test_camera_and_first_pixel_are_chosen(scans):
    done = run("depth_data", *VELODYNE, "--out=depth", "--camera=3", "--first-pixel=0", cwd=scans)
    assert done.returncode == 0, done.stderr
    assert pixels(scans / "depth/000000.png") == [(15, 20, 10)]  # a meter to the right: 100 px * 1 m / 10 m


def test_one_file_of_each_will_do(scans):
    one = ["--points=velodyne/000001.bin", "--calib=calib/000000.txt", "--images=image_2/000000.png"]
    done = run("depth_data", "velodyne", *one, "--out=depth", cwd=scans)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (scans / "depth").iterdir()] == ["000001.png"]


@pytest.mark.parametrize(
    ("spoilt", "content", "words"),
    [
        ("velodyne/000001.bin", b"7", "velodyne/000001.bin: expected 16 bytes a point"),
        ("calib/000001.txt", b"P2: 7", "calib/000001.txt: expected 12 numbers behind 'Tr_velo_to_cam:', got nothing"),
        ("calib/000001.txt", None, "calib: lacks 000001 (.txt), of which there are points"),
        ("image_2/000001.png", b"7", "image_2/000001.png: can't be read as an image"),
        ("image_2/000000.png", None, "image_2: lacks 000000 "),
        ("depth/notes.txt", b"7", "depth: is there already and not an empty folder"),
    ],
)
def test_a_bad_scan_is_refused_in_one_line_and_nothing_is_written(scans, spoilt, content, words):
    (scans / "depth").mkdir()
    if content is None:
        (scans / spoilt).unlink()
    else:
        (scans / spoilt).write_bytes(content)
    before = sorted(scans.rglob("*"))
    done = run("depth_data", *VELODYNE, "--out=depth", cwd=scans)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {words}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(scans.rglob("*")) == before


@pytest.mark.parametrize(("options", "depth_m"), [([], 2.5), (["--depths=raw"], 0)])
def test_matlabs_files_become_pictures_and_lists(nyu, options, depth_m):
    done = run("depth_data", *NYU, "--out=png", *options, cwd=nyu)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "train: 1, test: 1, results: png\n"
    assert (nyu / "png/train.txt").read_text() == "rgb/00002.png depth/00002.png\n"
    depth = read_depth(nyu / "png/depth/00002.png", unit="mm")
    assert depth.shape == (6, 8) and (depth == depth_m).all()


def test_a_bad_matlab_file_is_refused_in_one_line_and_nothing_is_written(nyu):
    (nyu / "splits.mat").write_text("no splits")
    done = run("depth_data", *NYU, "--out=png", cwd=nyu)
    assert done.returncode == 2 and done.stderr.startswith("error: splits.mat: not a file as MATLAB v5"), done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(file.name for file in nyu.iterdir()) == ["nyu.mat", "splits.mat"]


def test_a_sub_command_is_needed(tmp_path):
    done = run("depth_data", cwd=tmp_path)
    assert done.returncode == 2 and "required: velodyne|nyu" in done.stderr
