"""MATLAB's files of NYU-Depth-v2, in small, and what is refused of them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depth.data.depth_files import read_depth
from depth.data.nyu_mat import read_splits, write_nyu
from odebackbones.errors import InputError

h5py = pytest.importorskip("h5py", reason="the extra 'nyu' is not installed")
scipy_io = pytest.importorskip("scipy.io", reason="the extra 'nyu' is not installed")

IMAGES, HEIGHT, WIDTH = 4, 6, 8


@pytest.fixture
def content() -> dict[str, np.ndarray]:
    """Datasets as MATLAB lays them out: height and width swapped, channels before them."""
    random = np.random.default_rng(0)
    raw = random.uniform(0.7, 9.9, (IMAGES, WIDTH, HEIGHT)).astype(np.float32)
    raw[:, 0, :] = 0
    return {
        "images": random.integers(0, 255, (IMAGES, 3, WIDTH, HEIGHT), dtype=np.uint8),
        "depths": np.where(raw == 0, 2.5, raw).astype(np.float32),
        "rawDepths": raw,
    }


@pytest.fixture
def splits(tmp_path) -> Path:
    write_splits(tmp_path / "splits.mat", train=[2, 4], test=[1, 3])
    return tmp_path / "splits.mat"


def write_mat(path, content) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values
    return path


def write_splits(path, train, test):
    columns = {"trainNdxs": np.array(train)[:, None], "testNdxs": np.array(test)[:, None]}
    scipy_io.savemat(path, columns)


@pytest.mark.parametrize(("depths", "dataset"), [("filled", "depths"), ("raw", "rawDepths")])
def test_images_and_depths_are_written_upright_under_their_number(content, splits, tmp_path, depths, dataset):
    counts = write_nyu(write_mat(tmp_path / "nyu.mat", content), splits, tmp_path / "out", depths=depths)
    assert counts == {"train": 2, "test": 2}
    for i in range(IMAGES):
        rgb = np.asarray(Image.open(tmp_path / f"out/rgb/0000{i + 1}.png"))
        depth = read_depth(tmp_path / f"out/depth/0000{i + 1}.png", unit="mm")
        assert (rgb.shape, depth.shape) == ((HEIGHT, WIDTH, 3), (HEIGHT, WIDTH))
        for row, column in ((0, 0), (5, 0), (2, 7)):
            assert rgb[row, column].tolist() == content["images"][i, :, column, row].tolist()
            assert depth[row, column] == pytest.approx(content[dataset][i, column, row], abs=5.1e-4)
        assert (depth[:, 0] == (0 if depths == "raw" else 2.5)).all()


def test_lists_hold_the_official_numbers(content, splits, tmp_path):
    write_nyu(write_mat(tmp_path / "nyu.mat", content), splits, tmp_path / "out")
    train, test = ((tmp_path / f"out/{name}.txt").read_text() for name in ("train", "test"))
    assert train == "rgb/00002.png depth/00002.png\nrgb/00004.png depth/00004.png\n"
    assert test == "rgb/00001.png depth/00001.png\nrgb/00003.png depth/00003.png\n"
    files = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.*")}
    named = set(train.split()) | set(test.split())
    assert files == named | {"train.txt", "test.txt"}


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("images", None, "has no dataset images, only depths, rawDepths"),
        ("depths", None, "has no dataset depths, only images, rawDepths"),
        ("images", np.zeros((4, 8, 6, 3), np.uint8), r"expected images \(N, 3, W, H\) of uint8, got \(4, 8, 6, 3\)"),
        ("images", np.zeros((4, 3, 8, 6), np.float32), r"expected images .* got \(4, 3, 8, 6\) of float32"),
        ("depths", np.zeros((4, 6, 8), np.float32), r"expected depths \(4, 8, 6\) of floats, got \(4, 6, 8\) of"),
        ("depths", np.zeros((4, 8, 6), np.uint16), r"expected depths \(4, 8, 6\) of floats, got .* of uint16"),
    ],
)
def test_faulty_datasets_are_refused_and_nothing_is_left(content, splits, tmp_path, name, values, says):
    content[name] = values
    mat = write_mat(tmp_path / "nyu.mat", {key: value for key, value in content.items() if value is not None})
    with pytest.raises(InputError, match=f"nyu.mat: {says}"):
        write_nyu(mat, splits, tmp_path / "out")
    assert {file.name for file in tmp_path.iterdir()} == {"nyu.mat", "splits.mat"}


def test_files_of_another_kind_are_refused(content, splits, tmp_path):
    mat = write_mat(tmp_path / "nyu.mat", content)
    for file, says in ((splits, "not an HDF5 file, as MATLAB v7.3 writes it"), (tmp_path / "none.mat", "no such file")):
        with pytest.raises(InputError, match=rf"{file.name}: {says}"):
            write_nyu(file, splits, tmp_path / "out")
    (tmp_path / "empty.mat").touch()
    (tmp_path / "cut.mat").write_bytes(splits.read_bytes()[:100])
    for file in (mat, tmp_path / "empty.mat", tmp_path / "cut.mat"):
        with pytest.raises(InputError, match=f"{file.name}: not a file as MATLAB v5 writes it .*; download it again"):
            write_nyu(mat, file, tmp_path / "out")
    with pytest.raises(InputError, match=r"none.mat: no such file; expected splits.mat"):
        write_nyu(mat, tmp_path / "none.mat", tmp_path / "out")
    with pytest.raises(InputError, match="unknown depths 'fill'; did you mean 'filled'"):
        write_nyu(mat, splits, tmp_path / "out", depths="fill")
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_is_named_and_nothing_is_left(content, splits, tmp_path):
    mat = write_mat(tmp_path / "nyu.mat", {"depths": content["depths"]})
    with h5py.File(mat, "a") as file:
        images = file.create_dataset("images", data=content["images"], chunks=(1, 3, WIDTH, HEIGHT), compression="gzip")
        third = images.id.get_chunk_info(2)
    damaged = bytearray(mat.read_bytes())
    damaged[third.byte_offset : third.byte_offset + third.size] = bytes(third.size)
    mat.write_bytes(damaged)
    with pytest.raises(InputError, match=r"nyu.mat: /images of image 3 can't be read .*; download it again"):
        write_nyu(mat, splits, tmp_path / "out")
    assert {file.name for file in tmp_path.iterdir()} == {"nyu.mat", "splits.mat"}


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ([0, 2], [1], "trainNdxs: expected whole numbers from 1 to 4, got 0"),
        ([2], [5], "testNdxs: expected whole numbers from 1 to 4, got 5; is it of another file"),
        ([1.5], [2], "trainNdxs: expected whole numbers from 1 to 4, got 1.5"),
        ([2, 2], [1], "trainNdxs: an image is there twice"),
        ([1, 2, 3], [3, 2], "2 images are in both lists, e.g. 2"),
        (["a"], [1], "trainNdxs: expected numbers of images, got 1 values of <U1"),
        (np.empty(0), [1], "trainNdxs: expected numbers of images, got 0 values"),
    ],
)
def test_splits_that_fit_no_images_are_refused(tmp_path, train, test, says):
    write_splits(tmp_path / "splits.mat", train, test)
    with pytest.raises(InputError, match=rf"splits.mat: {says}"):
        read_splits(tmp_path / "splits.mat", IMAGES)


def test_splits_in_floats_are_whole_numbers(tmp_path):
    write_splits(tmp_path / "splits.mat", [3.0, 1.0], [2.0])
    assert read_splits(tmp_path / "splits.mat", IMAGES) == {"train": [3, 1], "test": [2]}
    scipy_io.savemat(tmp_path / "other.mat", {"trainNdxs": [1]})
    with pytest.raises(InputError, match=r"other.mat: has no variable testNdxs; expected the official splits.mat"):
        read_splits(tmp_path / "other.mat", IMAGES)


@pytest.mark.parametrize("package", ["h5py", "scipy.io"])
def test_a_missing_package_is_named_with_its_extra(content, splits, tmp_path, monkeypatch, package):
    mat = write_mat(tmp_path / "nyu.mat", content)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'odebackbones\[nyu\]'"):
        write_nyu(mat, splits, tmp_path / "out")
    assert not (tmp_path / "out").exists()
