"""Depth maps in units of other people, and what tells that one is wrong."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_read_pairs import names, read, write_pair

from depth.config import PredictConfig
from depth.data.check import describe
from depth.data.dataset import DepthDataset
from depth.data.depth_files import depth_png, read_depth
from depth.data.units import units_per_meter
from depth.predict import roomy_unit
from odebackbones import InputError


@pytest.mark.parametrize(
    ("unit", "count"),
    [("mm", 1000), ("cm", 100), ("m/256", 256), ("m/5000", 5000), (0.0002, 5000), ("0.00025", 4000), (1, 1)],
)
def test_a_unit_is_a_name_or_a_number_of_meters(unit, count, tmp_path):
    assert units_per_meter(unit) == pytest.approx(count)
    (tmp_path / "a.png").write_bytes(depth_png(np.full((3, 4), 7.0, np.float32), unit=unit))
    assert read_depth(tmp_path / "a.png", unit=unit) == pytest.approx(np.full((3, 4), 7.0))


@pytest.mark.parametrize("unit", ["m", "m/0", "inch", 0, -0.001, True, float("nan"), float("inf")])
def test_other_words_are_refused_with_those_there_are(unit):
    with pytest.raises(InputError, match=r"predict.unit=.*: expected mm, cm, m/256 .KITTI., .* the meters of 1"):
        PredictConfig(unit=unit)


def test_a_number_is_the_unit_of_floats_too_and_a_name_is_not(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 4), 2500.0, np.float32))
    assert read_depth(tmp_path / "a.npy", unit=0.001).max() == pytest.approx(2.5)
    assert read_depth(tmp_path / "a.npy", unit="mm").max() == 2500.0


def write_maps(root, meters, unit, count=3):
    for i in range(count):
        write_pair(root / "rgb" / f"{i}.png", root / "depth" / f"{i}.png", meters=meters, unit=unit)


@pytest.mark.parametrize(
    ("meters", "written", "read_as", "max_depth", "hint"),
    [
        (32.0, "cm", "m/256", 80.0, r"12.5 m, read in m/256, .* set data.unit \(32 m in cm\) or model"),
        (3.0, "m/5000", "mm", 80.0, r"15 m, read in mm, .* set data.unit \(58.6 m in m/256\) or model.max_depth"),
        (4.0, "mm", 0.01, 10.0, r"36.7 m, read in units of 0.01 m, .* \(3.67 m in mm\) or model"),
        (400.0, "cm", "cm", 80.0, r"356 m, read in cm, .* set data.unit \(35.6 m in mm\) or model.max_depth"),
    ],
)
def test_a_wrong_unit_is_refused_with_those_that_would_fit(tmp_path, meters, written, read_as, max_depth, hint):
    write_maps(tmp_path, meters, written)
    with pytest.raises(InputError, match=hint):
        read(tmp_path, unit=read_as, max_depth=max_depth)


def test_floats_in_millimeters_are_told_to_give_a_number(tmp_path):
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (10, 8)).save(tmp_path / "rgb/a.png")
    np.save(tmp_path / "depth/a.npy", np.tile(np.linspace(10, 1500, 10, dtype=np.float32), (8, 1)))
    with pytest.raises(InputError, match=r"read in meters \(floats\), .* set data.unit to the meters of 1.0 .* 0.001"):
        read(tmp_path, max_depth=1000.0)
    assert DepthDataset(read(tmp_path, max_depth=2.0, unit=0.001))[0][1].max() == pytest.approx(1.5)


def test_the_same_unit_by_another_name_is_no_hint(tmp_path):
    write_maps(tmp_path, 9.0, "mm")
    line = describe("val", read(tmp_path, max_depth=10.0, unit=0.001), max_depth=10.0)
    assert "m in mm" not in line


def test_small_floats_are_scaled_exactly(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 4), 100.0, np.float16))
    assert read_depth(tmp_path / "a.npy", unit=1000).max() == 100_000.0


def test_where_two_units_would_do_the_line_of_the_split_says_so(tmp_path):
    write_maps(tmp_path, 25.0, "m/256")
    line = describe("val", read(tmp_path, max_depth=80.0), max_depth=80.0)
    assert line.endswith("median 13 m (data.unit=m/256; 64 m in cm would do as well)")
    write_maps(tmp_path, 40.0, "m/256")
    assert "would do" not in describe("val", read(tmp_path, max_depth=80.0), max_depth=80.0)


def test_a_sky_at_a_round_number_is_no_other_unit(tmp_path):
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (10, 8)).save(tmp_path / "rgb/a.png")
    depth = np.tile(np.linspace(2, 60, 10, dtype=np.float32), (8, 1))
    depth[:2] = 1000.0
    np.save(tmp_path / "depth/a.npy", depth)
    assert names(read(tmp_path, max_depth=120.0)) == ["a"]


@pytest.mark.parametrize("check_unit", [True, False])
def test_a_set_beyond_the_greatest_depth_is_refused_before_a_training(tmp_path, check_unit):
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (10, 8)).save(tmp_path / "rgb/a.png")
    np.save(tmp_path / "depth/a.npy", np.full((8, 10), 90.0, np.float32))
    with pytest.raises(InputError, match=r"set (data.unit to .* or )?model.max_depth"):
        read(tmp_path, max_depth=80.0, check_unit=check_unit)


def turned_pair(root, orientation, *, upright, size=(8, 10)):
    """A stored image whose left half is white, and a map that is 8 m under the white half and 2 m elsewhere."""
    for folder in ("rgb", "depth"):
        (root / folder).mkdir()
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, : size[1] // 2] = 255
    tag = Image.Exif()
    tag[0x0112] = orientation
    Image.fromarray(pixels).save(root / "rgb/a.png", exif=tag)
    depth = np.where(pixels[..., 0] > 0, np.float32(8.0), np.float32(2.0))
    turn = {3: lambda x: x[::-1, ::-1], 6: lambda x: np.rot90(x, -1)}[orientation]
    (root / "depth/a.png").write_bytes(depth_png(turn(depth) if upright else depth, unit="mm"))


@pytest.mark.parametrize(("orientation", "size"), [(3, (8, 10)), (6, (8, 8))], ids=["half a turn", "square"])
@pytest.mark.parametrize(("exif", "upright"), [("turn", True), ("ignore", False)])
def test_an_image_that_keeps_its_shape_when_turned_needs_a_word(tmp_path, orientation, size, exif, upright):
    turned_pair(tmp_path, orientation, upright=upright, size=size)
    with pytest.raises(InputError, match=rf"EXIF orientation {orientation}, .* data.exif=turn if .* data.exif=ignore"):
        read(tmp_path, unit="mm", max_depth=10.0)
    image, depth = DepthDataset(read(tmp_path, unit="mm", max_depth=10.0, exif=exif))[0]
    assert torch.equal(image[0] > 0.5, depth[0] > 4.0)


@pytest.mark.parametrize("upright", [True, False])
def test_a_smaller_map_tells_by_its_shape_whether_it_is_turned(tmp_path, upright):
    turned_pair(tmp_path, 6, upright=upright, size=(40, 60))
    depth = read_depth(tmp_path / "depth/a.png", unit="mm")
    (tmp_path / "depth/a.png").write_bytes(depth_png(depth[::2, ::2], unit="mm"))
    image, depth = DepthDataset(read(tmp_path, unit="mm", max_depth=10.0))[0]
    assert image.shape[1:] == depth.shape[1:] == ((30, 20) if upright else (20, 30))
    assert torch.equal(image[0] > 0.5, depth[0] > 4.0)


def test_an_image_is_resized_to_its_depth_map_and_never_the_truth(tmp_path):
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.tile(np.arange(1296) // 6, (968, 1)).astype(np.uint8)).save(tmp_path / "rgb/a.png")
    stored = np.random.default_rng(0).uniform(1, 8, (480, 640)).astype(np.float32)
    np.save(tmp_path / "depth/a.npy", stored)
    image, depth = DepthDataset(read(tmp_path, max_depth=10.0))[0]
    assert np.array_equal(depth[0], stored)
    assert image.shape == (3, 480, 640)
    expected = (torch.arange(640) + 0.5) * 1296 / 640 / 6 / 255
    torch.testing.assert_close(image[0, 200], expected, atol=0.01, rtol=0.0)


def test_a_picture_of_a_map_is_not_taken_in_its_place(tmp_path, caplog):
    write_pair(tmp_path / "rgb/a.png", tmp_path / "depth/a.png")
    np.save(tmp_path / "depth/a.npy", np.full((8, 10), 25.0, np.float32))
    found = read(tmp_path)
    assert found.pairs[0].depth.name == "a.npy"
    assert "1 files have the name of another; .npy are read" in caplog.text


def test_predictions_are_written_in_a_unit_that_holds_them():
    assert roomy_unit(None, "mm", max_depth=10.0) == "mm"
    assert roomy_unit(None, "mm", max_depth=80.0) == "m/256"
    assert roomy_unit(None, 0.0002, max_depth=13.0) == 0.0002
    assert roomy_unit("cm", "mm", max_depth=80.0) == "cm"
    with pytest.raises(InputError, match=r"predict.unit=mm: 16 bits hold up to 65.534 m of .*=80 m: take m/256 or cm"):
        roomy_unit("mm", "mm", max_depth=80.0)
    with pytest.raises(InputError, match="take a number of meters"):
        roomy_unit(None, "mm", max_depth=1000.0)
