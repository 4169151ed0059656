"""torchvision's data sets as sources of images. Digits are written in MNIST's own format; torchvision reads them."""

import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from classification.data.config import DataConfig
from classification.data.dataset import LabeledImages, describe
from classification.data.read import build_source
from classification.data.sources import TORCHVISION, FolderImages, TorchvisionImages
from classification.data.transforms import build_transform
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
    config = DataConfig(format="mnist", root=str(digits))
    train, val = (build_source(config, train=train) for train in (True, False))
    assert (len(train.labels), len(val.labels)) == (30, 10)
    assert val.labels == list(range(10))
    assert len(val.classes) == 10 and val.classes[3].startswith("3")


def test_images_have_the_networks_channels(digits):
    source = TorchvisionImages("mnist", digits, train=False)
    pixels, label = LabeledImages(source, build_transform(DIGITS), mode="L")[7]
    assert (pixels.shape, label) == ((1, 28, 28), 7)
    assert pixels.unique().tolist() == pytest.approx([140 / 255])
    assert source.read(7).mode == "RGB"


def test_color_images_come_as_torchvision_has_them(tmp_path, monkeypatch):
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
    with pytest.raises(
        InputError, match=rf"data\.root={tmp_path}: incomplete or missing {name} .*--data\.download true"
    ):
        TorchvisionImages(name, tmp_path, train=True)


def test_damaged_data_are_named(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte").write_bytes(b"no digits")
    with pytest.raises(InputError, match=r"incomplete or missing mnist .*; first delete a damaged copy"):
        TorchvisionImages("mnist", tmp_path, train=True)


def test_data_of_other_classes_are_refused(digits):
    with pytest.raises(
        InputError, match="mnist has 10 classes, and 2 were expected: missing cat, dog; unknown 0 - zero"
    ):
        build_source(DataConfig(format="mnist", root=str(digits)), train=False, classes=["cat", "dog"])


def test_an_unknown_data_set_is_refused_with_the_near_ones():
    with pytest.raises(InputError, match=r"unknown data\.format 'cifar'; did you mean 'cifar10', 'cifar100'"):
        DataConfig(format="cifar")


def write_folders(root, folders):
    """Images by folder."""
    for folder, files in folders.items():
        (root / folder).mkdir(parents=True)
        for file in files:
            Image.new("RGB", (4, 3), "red").save(root / folder / file)
    return root


def test_folders_that_systems_and_tools_leave_are_no_classes(tmp_path):
    root = write_folders(tmp_path, {"cat": ["a.png"], "dog": ["b.JPG", "c.jfif", "d.gif"]})
    for folder in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        (root / folder).mkdir()
        (root / folder / "x.png").write_text("no image")
    (root / "cat" / "._a.png").write_text("no image")
    source = FolderImages(root)
    assert (source.classes, source.labels) == (["cat", "dog"], [0, 1, 1, 1])


def test_the_numbers_of_the_classes_are_the_training_sets_and_one_may_have_no_images(tmp_path, caplog):
    write_folders(tmp_path, {"train/1": ["a.png"], "train/10": ["a.png"], "train/2": ["a.png"], "val/2": ["b.png"]})
    (tmp_path / "val/10").mkdir()
    config = DataConfig(root=str(tmp_path))
    train = build_source(config, train=True)
    val = build_source(config, train=False, classes=train.classes)
    assert train.classes == val.classes == ["1", "10", "2"]
    assert val.labels == [2]
    assert "val: no images of 2 classes: 1, 10" in caplog.text


def test_a_folder_of_another_class_is_refused(tmp_path):
    write_folders(tmp_path, {"cat": ["a.png"], "Dog": ["a.png"]})
    with pytest.raises(InputError, match="missing dog; unknown Dog"):
        FolderImages(tmp_path, classes=["cat", "dog"])


def test_images_are_turned_upright_unless_that_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "val/cat").mkdir(parents=True)
    Image.new("RGB", (4, 3)).save(tmp_path / "val/cat/a.jpg", exif=exif)
    for setting, size in (("auto", (3, 4)), ("turn", (3, 4)), ("ignore", (4, 3))):
        source = build_source(DataConfig(root=str(tmp_path), exif=setting), train=False)
        assert source.read(0).size == size


def test_a_line_tells_what_a_split_holds(tmp_path):
    source = FolderImages(write_folders(tmp_path, {"cat": ["a.png"], "dog": ["b.png", "c.png"]}))
    assert describe("train", LabeledImages(source, build_transform(DIGITS))) == (
        "train: 3 images, 2 classes of 1 to 2 images"
    )
