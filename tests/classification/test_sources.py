"""torchvision's data sets as sources of images. Digits are written in MNIST's own format; torchvision reads them."""

import pickle
import struct

import numpy as np
import pytest
from torchvision import datasets

from odebackbones.classification.data import DataConfig, LabelledImages, build_source, build_transform
from odebackbones.classification.sources import TORCHVISION, TorchvisionImages
from odebackbones.errors import InputError

DIGITS = {"input_size": (1, 28, 28), "mean": (0.0,), "std": (1.0,), "crop_pct": 1.0}


def write_idx(path, array):
    """Y. LeCun's format: two zeros, the type, the number of dimensions, their sizes, the bytes."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A root with 30 training and 10 test digits, each of the brightness of its class."""
    root = tmp_path_factory.mktemp("digits")
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split, number in (("train", 30), ("t10k", 10)):
        labels = np.arange(number) % 10
        write_idx(folder / f"{split}-images-idx3-ubyte", np.tile(20 * labels[:, None, None], (1, 28, 28)))
        write_idx(folder / f"{split}-labels-idx1-ubyte", labels)
    return root


def test_the_splits_are_torchvisions(digits):
    config = DataConfig(dataset="mnist", root=str(digits))
    train, val = (build_source(config, train=train) for train in (True, False))
    assert (len(train.labels), len(val.labels)) == (30, 10)
    assert val.labels == list(range(10))
    assert len(val.classes) == 10 and val.classes[3].startswith("3")


def test_images_have_the_networks_channels(digits):
    source = TorchvisionImages("mnist", digits, train=False)
    pixels, label = LabelledImages(source, build_transform(DIGITS), mode="L")[7]
    assert (pixels.shape, label) == ((1, 28, 28), 7)
    assert pixels.unique().tolist() == pytest.approx([140 / 255])
    assert source.read(7).mode == "RGB"


def test_colour_images_come_as_torchvision_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: setattr(self, "classes", list("abcdefghij")))
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        content = {"data": pixels.reshape(4, -1), "labels": [3, 1, 0, 2]}
        (folder / name).write_bytes(pickle.dumps(content))
    source = TorchvisionImages("cifar10", tmp_path, train=True)
    assert source.labels == [3, 1, 0, 2] * 5
    assert np.array_equal(np.array(source.read(1)), pixels[1].transpose(1, 2, 0))


@pytest.mark.parametrize("name", TORCHVISION)
def test_data_that_are_not_there_are_named_with_what_to_do(tmp_path, name):
    with pytest.raises(InputError, match=rf"data\.root={tmp_path}: no whole {name} there .*--data\.download true"):
        TorchvisionImages(name, tmp_path, train=True)


def test_damaged_data_are_named(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte").write_bytes(b"no digits")
    with pytest.raises(InputError, match=r"no whole mnist there .*; first delete a damaged copy"):
        TorchvisionImages("mnist", tmp_path, train=True)


def test_data_of_other_classes_are_refused(digits):
    with pytest.raises(
        InputError, match="mnist has 10 classes, and 2 were expected: missing cat, dog; unknown 0 - zero"
    ):
        build_source(DataConfig(dataset="mnist", root=str(digits)), train=False, classes=["cat", "dog"])


def test_an_unknown_data_set_is_refused_with_the_near_ones():
    with pytest.raises(InputError, match=r"unknown data\.dataset 'cifar'; did you mean 'cifar10', 'cifar100'"):
        DataConfig(dataset="cifar")
