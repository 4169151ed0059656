"""Pairs as other people's tools write them: lists, sentinels, orientation, kinds of files."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_read_pairs import names, read, write_pair

from depth.data.check import describe
from depth.data.dataset import DepthDataset
from depth.protocols import evaluated_truth
from odebackbones import InputError


@pytest.mark.parametrize(
    "line",
    [
        "rgb/a.png depth/a.png",
        "\ufeffrgb/a.png depth/a.png",
        "# a comment\n\nrgb/a.png depth/a.png 518.8",
        "rgb\\a.png depth\\a.png",
        '"rgb/a.png" "depth/a.png"',
        "1305031102.175304 rgb/a.png 1305031102.160407 depth/a.png",  # TUM's associations.txt
    ],
    ids=["plain", "byte order mark", "comment", "backslash", "quotes", "TUM"],
)
def test_lists_are_read_however_they_are_written(tmp_path, line):
    write_pair(tmp_path / "rgb/a.png", tmp_path / "depth/a.png")
    (tmp_path / "val.txt").write_text(line, encoding="utf-8")
    assert names(read(tmp_path, val="val.txt")) == ["rgb_a"]


def test_paths_with_spaces_stand_in_quotes(tmp_path):
    write_pair(tmp_path / "my rgb/a 1.png", tmp_path / "my depth/a 1.png")
    (tmp_path / "val.txt").write_text('"my rgb/a 1.png" "my depth/a 1.png" 518.8')
    assert names(read(tmp_path, val="val.txt")) == ["my rgb_a 1"]


@pytest.mark.parametrize("sky", [1e10, 65504.0, 1000.0, np.inf])
def test_a_word_for_the_sky_is_no_depth(tmp_path, sky, caplog):
    depth = np.tile(np.linspace(2, 60, 10, dtype=np.float32), (8, 1))
    depth[:4] = sky
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (10, 8)).save(tmp_path / "rgb/a.png")
    np.save(tmp_path / "depth/a.npy", depth)
    found = read(tmp_path)
    assert names(found) == ["a"] and not found.problems
    told = "40 depths beyond 10 times model.max_depth, as some tools have for the sky, count as not measured"
    assert (told in caplog.text) == np.isfinite(sky)
    served = DepthDataset(found)
    assert served[0][1].max() == 60 and served.depth(0).max() == 60  # also for the baselines
    assert "50.0 % of the pixels measured" in describe("train", found, max_depth=80.0)


def test_a_pair_without_the_part_that_is_evaluated_is_left_out_before_a_training(tmp_path):
    write_pair(tmp_path / "rgb/a.png", tmp_path / "depth/a.png")
    with pytest.raises(InputError, match=r"a\.png: protocol nyu is for 480x640 px.*take eval.protocol raw"):
        read(tmp_path, cut=lambda depth: evaluated_truth(depth, "nyu"))


def test_a_map_in_another_unit_is_no_sky(tmp_path):
    write_pair(tmp_path / "rgb/a.png", tmp_path / "depth/a.png")
    np.save(tmp_path / "depth/b.npy", np.full((8, 10), 5000.0, np.float32))  # millimeters as meters
    Image.new("RGB", (10, 8)).save(tmp_path / "rgb/b.png")
    with pytest.raises(
        InputError, match=r"b\.npy: reaches to 5e\+03 m, where model.max_depth=80 m: is its unit another"
    ):
        read(tmp_path, strict=True)
    found = read(tmp_path)
    assert [pair.name for pair in found.pairs] == ["a"] and "b.npy: reaches to" in found.problems[0]


@pytest.mark.parametrize(("exif", "turned"), [("auto", False), ("auto", True), ("ignore", False), ("turn", True)])
def test_an_image_is_turned_as_its_depth_map_is(tmp_path, exif, turned):
    pixels = np.zeros((8, 10, 3), np.uint8)
    pixels[:, :5] = 255
    tag = Image.Exif()
    tag[0x0112] = 6
    write_pair(tmp_path / "rgb/a.png", tmp_path / "depth/a.png", size=(10, 8) if turned else (8, 10))
    Image.fromarray(pixels).save(tmp_path / "rgb/a.png", exif=tag)
    image, depth = DepthDataset(read(tmp_path, exif=exif))[0]
    assert image.shape[1:] == depth.shape[1:] == ((10, 8) if turned else (8, 10))
    assert image[0, 0].mean() == (1.0 if turned else 0.5)


def test_images_of_16_bits_are_scaled_and_hidden_files_passed_over(tmp_path):
    write_pair(tmp_path / "rgb/a.png", tmp_path / "depth/a.png")
    Image.fromarray(np.full((8, 10), 25700, np.uint16)).save(tmp_path / "rgb/a.png")
    for hidden in ("rgb/._a.png", "depth/._a.png"):
        (tmp_path / hidden).write_text("mac")
    image, _ = DepthDataset(read(tmp_path))[0]
    torch.testing.assert_close(image, torch.full((3, 8, 10), 100 / 255))


def test_a_line_tells_what_a_split_holds(tmp_path):
    write_pair(tmp_path / "rgb/a.png", tmp_path / "depth/a.png", meters=40.0)
    assert describe("val", read(tmp_path), max_depth=80.0) == (
        "val: 1 pairs of 8x10 px, 0 left out; of 1 of them 100.0 % of the pixels measured, 90 % from 1 to 40 m, "
        "median 20.5 m"
    )
