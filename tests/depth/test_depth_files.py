import cv2
import numpy as np
import pytest
from PIL import Image

from depth.data.depth_files import depth_npy, depth_png, read_depth
from odebackbones import InputError


def written(path, values):
    assert cv2.imwrite(str(path), values)
    return path


@pytest.mark.parametrize(
    ("unit", "expected"), [("m/256", [[0, 1.0], [0.5, 255.0]]), ("mm", [[0, 0.256], [0.128, 65.28]])]
)
def test_whole_numbers_are_read_in_their_unit(tmp_path, unit, expected):
    path = written(tmp_path / "a.png", np.array([[0, 256], [128, 65280]], np.uint16))
    depth = read_depth(path, unit=unit)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_what_was_not_measured_is_0(tmp_path):
    path = written(tmp_path / "a.png", np.array([[0, 65535, 1000]], np.uint16))
    assert read_depth(path, unit="mm").tolist() == [[0, 0, 1]]
    np.save(tmp_path / "b.npy", np.array([[np.nan, np.inf, -1, 0, 2.5]]))
    assert read_depth(tmp_path / "b.npy", unit="mm").tolist() == [[0, 0, 0, 0, 2.5]]


@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_floats_are_meters_whatever_the_unit(tmp_path, suffix):
    depth = np.array([[0.5, 12.25], [3.0, 79.0]], np.float32)
    path = tmp_path / f"a{suffix}"
    np.save(path, depth) if suffix == ".npy" else written(path, depth)
    assert np.array_equal(read_depth(path, unit="mm"), depth)


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3, 1)])
def test_an_axis_of_one_channel_is_left_out(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.ones(shape, np.float32))
    assert read_depth(tmp_path / "a.npy", unit="mm").shape == (2, 3)


@pytest.mark.parametrize(("unit", "step", "largest"), [("m/256", 1 / 256, 65534 / 256), ("mm", 1e-3, 65.534)])
def test_a_png_gives_back_the_depth_to_its_units_precision(tmp_path, unit, step, largest):
    depth = np.random.default_rng(0).uniform(0.01, 60, (20, 30)).astype(np.float32)
    depth[0, :3] = 0, 1e-6, 1e6
    (tmp_path / "a.png").write_bytes(depth_png(depth, unit=unit))
    found = read_depth(tmp_path / "a.png", unit=unit)
    assert found[0, 0] == 0
    assert found[0, 1] == pytest.approx(step), "a known depth became an unknown one"
    assert found[0, 2] == pytest.approx(largest)
    assert np.abs(found - depth)[1:].max() <= step / 2 + 1e-5
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "I;16"


def test_an_array_gives_back_the_depth_exactly(tmp_path):
    depth = np.random.default_rng(0).uniform(0.1, 80, (5, 7)).astype(np.float32)
    (tmp_path / "a.npy").write_bytes(depth_npy(depth))
    assert np.array_equal(read_depth(tmp_path / "a.npy", unit="mm"), depth)


def test_files_that_are_no_depth_maps_are_refused_by_name(tmp_path):
    written(tmp_path / "picture.png", np.zeros((4, 4, 3), np.uint8))
    written(tmp_path / "bytes.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    (tmp_path / "broken.npy").write_bytes(b"no")
    (tmp_path / "broken.exr").write_bytes(b"\x76\x2f\x31\x01\x02\x00\x00\x00no")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, message in {
        "picture.png": r"picture\.png: a depth map has one channel, and this file is \(4, 4, 3\)",
        "bytes.png": r"bytes\.png: expected 16-bit whole numbers or floats, got uint8",
        "broken.png": r"broken\.png: can't be read as a depth map",
        "broken.exr": r"broken\.exr: can't be read as a depth map; .* OpenEXR, and OPENCV_IO_ENABLE_OPENEXR=1",
        "broken.npy": r"broken\.npy: no array that NumPy can read",
        "objects.npy": r"objects\.npy: no array that NumPy can read",
        "none.png": r"none\.png: no such depth map",
        "none.npy": r"none\.npy: no such depth map",
    }.items():
        with pytest.raises(InputError, match=message):
            read_depth(tmp_path / name, unit="mm")
