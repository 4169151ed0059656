from pathlib import Path

import numpy as np
import pytest
import torch

from depth.data.depth_files import depth_png
from depth.data.predictions import prediction_files, read_prediction, require_all
from depth.data.records import DepthPair
from odebackbones import InputError


def pairs(*names):
    return [DepthPair(name, Path(f"{name.split('_')[-1]}.png"), Path("depth.png")) for name in names]


def test_predictions_are_found_by_the_pairs_name_or_the_images(tmp_path):
    for name in ("drive_005.png", "007.npy", "008_depth.png", "008_depth.npy"):
        (tmp_path / name).touch()
    found = prediction_files(tmp_path, pairs("drive_005", "drive_007", "drive_008"))
    assert [file.name for file in found] == ["drive_005.png", "007.npy", "008_depth.npy"]


def test_an_images_name_that_is_not_unique_does_not_do(tmp_path):
    (tmp_path / "005.png").touch()
    with pytest.raises(InputError, match=r"no prediction for 2 of 2 images: a_005, b_005; expected NAME.npy or"):
        prediction_files(tmp_path, pairs("a_005", "b_005"))


def test_a_name_of_one_pair_that_is_another_pairs_image_does_not_do(tmp_path):
    (tmp_path / "0001.npy").touch()
    both = [DepthPair("0001", Path("0001.png"), Path("d.png")), DepthPair("sub_0001", Path("sub/0001.png"), Path("d"))]
    with pytest.raises(InputError, match="no prediction for 1 of 2 images: sub_0001"):
        prediction_files(tmp_path, both)


def test_floats_are_meters_unless_predictions_have_a_unit_of_their_own(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 6), 2.0, np.float16))
    assert read_prediction(tmp_path / "a.npy", unit=0.001).max() == 2.0
    assert read_prediction(tmp_path / "a.npy", unit="mm", unit_of_floats=0.001).max() == pytest.approx(0.002)


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none: no such folder; give one with a .npy"):
        prediction_files(tmp_path / "none", pairs("a"))


def test_a_prediction_with_holes_is_refused(tmp_path):
    depth = np.ones((4, 6), np.float32)
    depth[0, :2] = 0
    (tmp_path / "a.png").write_bytes(depth_png(depth, unit="mm"))
    prediction = read_prediction(tmp_path / "a.png", unit="mm")
    counted = torch.zeros(4, 6, dtype=torch.bool)
    counted[1:] = True
    require_all(prediction, counted, tmp_path / "a.png")
    counted[0, 0] = True
    with pytest.raises(InputError, match=r"a.png: 1 pixels that count have no depth above 0"):
        require_all(prediction, counted, tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a.png: 2 pixels that count"):
        require_all(prediction, torch.ones(8, 12, dtype=torch.bool), tmp_path / "a.png")


def test_predictions_of_kitti_are_found_by_drive_and_frame_as_bts_writes_them(tmp_path):
    drives = [f"2011_09_26_drive_000{i}_sync" for i in (2, 9)]
    images = [Path(f"kitti/2011_09_26/{drive}/image_02/data/0000000069.png") for drive in drives]
    kitti = [DepthPair(str(image.with_suffix("")).replace("/", "_"), image, Path("d.png")) for image in images]
    for drive in drives:
        (tmp_path / f"{drive}_0000000069.png").touch()
    found = prediction_files(tmp_path, kitti)
    assert [file.name for file in found] == [f"{drive}_0000000069.png" for drive in drives]


def test_an_array_of_a_batch_and_a_channel_of_one_is_a_map(tmp_path):
    np.save(tmp_path / "a.npy", np.full((1, 1, 4, 6), 2.0, np.float32))
    assert read_prediction(tmp_path / "a.npy", unit="mm").shape == (4, 6)
