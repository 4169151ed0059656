import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from depth.data.config import DataConfig
from depth.data.dataset import DepthDataset, collate
from depth.data.depth_files import depth_png
from depth.data.read import read_pairs, require_apart
from odebackbones import InputError


def write_pair(image, depth, *, meters=30.0, size=(8, 10), unit="m/256"):
    """An image and a depth map that rises from left to right to ``meters``."""
    for path in (image, depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 100, np.uint8)).save(image)
    depth.write_bytes(depth_png(np.tile(np.linspace(1, meters, size[1], dtype=np.float32), (size[0], 1)), unit=unit))


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        write_pair(tmp_path / "rgb" / f"{i:03d}.jpg", tmp_path / "depth" / f"{i:03d}.png")
    return tmp_path


def read(root, split="val", *, max_depth=80.0, cut=lambda depth: depth, **kwargs):
    config = DataConfig(**{"format": "folder", "root": str(root), "val": ":", **kwargs})
    return read_pairs(config, split, max_depth=max_depth, cut=cut)


def names(pairs):
    return [pair.name for pair in pairs.pairs]


@pytest.mark.parametrize(
    ("value", "expected"), [("", range(6)), (":", range(6)), (":4", range(4)), ("4:", (4, 5)), ("1:3", (1, 2))]
)
def test_a_slice_takes_the_pairs_in_the_order_of_their_names(folder, value, expected):
    assert names(read(folder, val=value)) == [f"{i:03d}" for i in expected]


def test_a_subfolder_may_hold_the_split(tmp_path):
    write_pair(tmp_path / "test" / "color" / "a.png", tmp_path / "test" / "gt" / "a.png")
    assert names(read(tmp_path, val="test", rgb="color", depth="gt")) == ["a"]


def test_a_list_names_the_pairs_and_may_say_more(folder):
    (folder / "val.txt").write_text(
        "/rgb/003.jpg /depth/001.png 518.8\n\nrgb/000.jpg None 518.8\nrgb/002.jpg depth/002.png\n"
    )
    found = read(folder, val="val.txt")
    assert names(found) == ["rgb_003", "rgb_002"]
    assert [pair.depth.name for pair in found.pairs] == ["001.png", "002.png"]


def test_a_list_may_lie_elsewhere_and_have_whole_paths(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("lists") / "val.txt"
    place.write_text(f"{folder}/rgb/001.jpg {folder}/depth/001.png")
    assert read(folder, val=str(place)).pairs[0].image == folder / "rgb" / "001.jpg"


DRIVE = "2011_09_26/2011_09_26_drive_0002_sync"


@pytest.fixture(params=["", "train", "val"])
def kitti(tmp_path, request):
    for frame in (5, 69):
        image = tmp_path / "raw" / DRIVE / "image_02" / "data" / f"{frame:010d}.{'png' if frame == 5 else 'jpg'}"
        truth = "2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02"
        write_pair(image, tmp_path / "annotated" / request.param / truth / f"{frame:010d}.png")
    return tmp_path


def read_split(kitti, text):
    (kitti / "split.txt").write_text(text)
    roots = {"root": str(kitti / "raw"), "depth_root": str(kitti / "annotated")}
    return read(**{"format": "kitti", "val": str(kitti / "split.txt"), **roots})


def test_eigens_split_of_kitti_is_read_as_bts_writes_it(kitti):
    gt = "2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02"
    lines = [f"{DRIVE}/image_02/data/{frame:010d}.png {gt}/{frame:010d}.png 721.5377" for frame in (5, 69)]
    found = read_split(kitti, "\n".join([*lines, f"{DRIVE}/image_02/data/0000000001.png None 721.5377"]))
    assert [pair.image.suffix for pair in found.pairs] == [".png", ".jpg"], "the raw data as JPEG was not found"
    assert names(found)[0].endswith("drive_0002_sync_image_02_data_0000000005")


def test_eigens_split_of_kitti_is_read_as_monodepth2_writes_it(kitti):
    found = read_split(kitti, f"{DRIVE} 5 l\n{DRIVE} 69 l\n{DRIVE} 1 l\n")
    assert [pair.image.stem for pair in found.pairs] == ["0000000005", "0000000069"]
    assert names(found)[1] == "2011_09_26_2011_09_26_drive_0002_sync_image_02_data_0000000069"


@pytest.mark.parametrize("line", [f"{DRIVE} abc l", f"{DRIVE} 5 x"])
def test_a_line_of_neither_form_is_named(kitti, line):
    with pytest.raises(
        InputError, match=r"split.txt, line 2: expected IMAGE DEPTH ..., or DRIVE FRAME and l or r, got"
    ):
        read_split(kitti, f"{DRIVE} 5 l\n{line}\n")


def test_images_without_depth_are_counted(kitti, caplog):
    with caplog.at_level(logging.WARNING):
        read_split(kitti, f"{DRIVE} 5 l\n{DRIVE} 1 l\n{DRIVE} 2 l\n")
    assert "2 images have no depth map, and are left out" in caplog.text


def test_an_image_that_is_listed_twice_is_refused(folder):
    (folder / "val.txt").write_text("rgb/000.jpg depth/000.png\n" * 2)
    with pytest.raises(InputError, match=r"1 images are there twice, rgb_000 and others"):
        read(folder, val="val.txt")


def test_splits_that_overlap_are_refused(folder):
    with pytest.raises(
        InputError, match=r"2 images are in both splits, such as .*002.jpg: set data.train and data.val"
    ):
        require_apart(read(folder, val=":4"), read(folder, val="2:"))
    require_apart(read(folder, val=":3"), read(folder, val="3:"))


def test_every_malformed_pair_is_named(folder, caplog):
    (folder / "rgb" / "000.jpg").write_bytes(b"no image")
    (folder / "depth" / "001.png").write_bytes(b"no depth")
    write_pair(folder / "rgb" / "002.jpg", folder / "aside.png", size=(8, 12))
    (folder / "depth" / "003.png").write_bytes(depth_png(np.zeros((8, 10)), unit="m/256"))
    (folder / "depth" / "004.png").write_bytes(
        depth_png(np.full((8, 10), 30 / 256), unit="m/256")
    )  # meters, not 256ths
    cv2.imwrite(str(folder / "depth" / "005.png"), np.zeros((8, 10, 3), np.uint8))
    with (
        pytest.raises(InputError, match=r"6 of 6 pairs are faulty: .* and 1 more of them. Repair them"),
        caplog.at_level("WARNING"),
    ):
        read(folder)
    for fault in (
        "000.jpg: no image",
        "001.png: can't be read as a depth map",
        "002.png are of 8x12 px and 8x10 px; expected pairs of one shape",
        "003.png: no pixel has a measured depth",
        "004.png: reaches to 0.117 m, where model.max_depth=80 m: is its unit another?",
        "005.png: a depth map has one channel, and this file is (8, 10, 3)",
    ):
        assert fault in caplog.text


def test_faulty_pairs_can_be_left_out_with_a_word(folder, caplog):
    (folder / "depth" / "001.png").write_bytes(b"no depth")
    with caplog.at_level(logging.WARNING):
        found = read(folder, strict=False)
    assert names(found) == ["000", "002", "003", "004", "005"]
    assert "001.png: can't be read" in found.problems[0]
    assert "1 faulty pair(s), such as " in caplog.text


@pytest.mark.parametrize(
    ("meters", "written", "read_as", "max_depth"), [(3.5, "mm", "m/256", 10.0), (40.0, "m/256", "mm", 80.0)]
)
def test_a_set_in_another_unit_is_refused(tmp_path, meters, written, read_as, max_depth):
    for i in range(3):
        write_pair(tmp_path / "rgb" / f"{i}.png", tmp_path / "depth" / f"{i}.png", meters=meters, unit=written)
    assert len(read(tmp_path, unit=written, max_depth=max_depth).pairs) == 3
    with pytest.raises(InputError, match=r"scenes end at .* read in .*, but model.max_depth=.* set data.unit"):
        read(tmp_path, unit=read_as, max_depth=max_depth)
    assert len(read(tmp_path, unit=read_as, max_depth=max_depth, check_unit=False).pairs) == 3


def test_without_verification_a_few_pairs_are_looked_at_and_the_dataset_names_the_others(tmp_path):
    for i in range(60):
        write_pair(tmp_path / "rgb" / f"{i:03d}.png", tmp_path / "depth" / f"{i:03d}.png")
    (tmp_path / "depth" / "001.png").write_bytes(b"no depth")
    pairs = read(tmp_path, verify=False)
    with pytest.raises(InputError, match=r"001.png: can't be read"):
        DepthDataset(pairs)[1]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"root": "/nowhere"}, r"/nowhere: no such folder; set data.root"),
        ({"val": "none.txt"}, r"none.txt: no such list, folder, or slice like :80"),
        ({"rgb": "images"}, r"images: no such folder; set data.root, data.rgb and data.depth"),
        ({"val": "9:"}, r"data.val='9:': .* has 6 pairs, and none in this slice"),
        ({"format": "kitti", "val": ""}, r"data.val is empty; kitti needs a split file"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(folder, kwargs, message):
    with pytest.raises(InputError, match=message):
        read(**{"root": folder, **kwargs})


def test_an_image_without_a_depth_map_and_a_line_without_one_are_named(folder):
    (folder / "depth" / "004.png").unlink()
    with pytest.raises(InputError, match=r"1 images have no depth map of their name in .*depth: 004.jpg"):
        read(folder)
    (folder / "val.txt").write_text("rgb/000.jpg depth/000.png\nrgb/001.jpg\n")
    with pytest.raises(InputError, match=r"val.txt, line 2: expected IMAGE DEPTH, got 'rgb/001.jpg'"):
        read(folder, val="val.txt")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"format": "nyu"}, r"unknown data.format 'nyu'"),
        ({"unit": "m"}, r"data.unit='m': expected mm, cm, m/256"),
        ({"augment": "flips"}, r"unknown data.augment 'flips'; did you mean 'flip'"),
        ({"workers": -1}, r"data.workers=-1: expected at least 0"),
        ({"crop": (16, 64)}, r"data.crop=\[16, 64\]: expected height and width of at least 32 px"),
    ],
)
def test_a_wrong_config_is_refused_by_name(kwargs, message):
    with pytest.raises(InputError, match=message):
        DataConfig(**kwargs)


def test_samples_are_images_between_0_and_1_and_meters_within_the_frame(folder):
    cut = lambda sample: (sample[0][:, 2:, :-1], sample[1][2:, :-1])  # noqa: E731
    for in_memory in (False, True):
        image, depth = DepthDataset(read(folder), cut=cut, in_memory=in_memory)[0]
        assert (image.shape, depth.shape) == ((3, 6, 9), (1, 6, 9))
        assert image.mean() == pytest.approx(100 / 255, abs=0.01)
        assert depth[0, 0].tolist() == pytest.approx(np.linspace(1, 30, 10)[:9], abs=1 / 500)


def test_a_batch_of_different_sizes_is_refused_with_what_to_set(folder):
    write_pair(folder / "rgb" / "001.jpg", folder / "depth" / "001.png", size=(8, 12))
    dataset = DepthDataset(read(folder))
    with pytest.raises(InputError, match=r"different sizes, .* set data.size or data.crop"):
        collate([dataset[0], dataset[1]])


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("place", "kwargs", "max_depth", "count"),
    [
        ("redkitchen", {"rgb": "color", "depth": "depth_registered", "unit": "mm"}, 10.0, 100),
        ("kitti_raw", {"rgb": "image_02", "depth": "depth_sparse"}, 80.0, 13),
        ("kitti_object/training", {"rgb": "image_2", "depth": "depth_2_sparse"}, 80.0, 11),
    ],
)
def test_real_pairs_are_read_and_sound(shared_data, place, kwargs, max_depth, count):
    assert len(read(shared_data / place, max_depth=max_depth, **kwargs).pairs) == count
