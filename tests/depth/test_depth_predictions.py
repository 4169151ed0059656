from pathlib import Path

import numpy as np
import pytest

from depth.data.depth_files import depth_png
from depth.data.predictions import prediction_files, read_prediction
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


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none: no such folder; give one with a .npy"):
        prediction_files(tmp_path / "none", pairs("a"))


def test_a_prediction_with_holes_is_refused(tmp_path):
    depth = np.ones((4, 6), np.float32)
    depth[0, :2] = 0
    (tmp_path / "a.png").write_bytes(depth_png(depth, unit="mm"))
    with pytest.raises(InputError, match=r"a.png: 2 pixels have no depth above 0; a prediction needs all"):
        read_prediction(tmp_path / "a.png", unit="mm")
