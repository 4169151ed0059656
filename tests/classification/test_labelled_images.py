import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from classification.data.config import DataConfig
from classification.data.dataset import LabeledImages
from classification.data.read import build_source
from classification.data.sources import FolderImages
from classification.data.transforms import AUGMENTATIONS, build_transform
from classification.model import ModelConfig, input_config
from engine.training.sampling import SeededDataset
from odebackbones.errors import InputError

CIFAR = {"input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}


def test_labels_are_the_places_of_the_folders_in_the_alphabet(colors):
    images = LabeledImages(FolderImages(colors / "val"), build_transform(CIFAR))
    assert images.classes == ["blue", "green", "red"]
    assert len(images) == 12
    pixels, label = images[11]
    assert (pixels.shape, label) == ((3, 32, 32), 2)
    assert pixels.mean((1, 2)).argmax() == 0  # the last one is red


def test_images_in_memory_are_the_same(colors):
    source, transform = FolderImages(colors / "val"), build_transform(CIFAR)
    read, kept = (LabeledImages(source, transform, in_memory=value) for value in (False, True))
    assert all(torch.equal(read[i][0], kept[i][0]) for i in range(12))


def test_damaged_images_are_named_before_work_starts(tmp_path, colors):
    source = FolderImages(shutil.copytree(colors / "val", tmp_path / "val"))
    source.verify()
    for i in (3, 7):
        file = Path(source.files[i])
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match=rf"2 of 12 images can't be read.*{Path(source.files[3]).name}: image cannot"):
        source.verify()


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_augmented_images_have_the_size_of_the_others(colors, augment):
    images = LabeledImages(FolderImages(colors / "train"), build_transform(CIFAR, augment=augment))
    assert images[0][0].shape == (3, 32, 32)
    larger = build_transform({**CIFAR, "input_size": (3, 48, 48), "crop_pct": 0.875}, augment=augment)
    assert larger(Image.new("RGB", (100, 60))).shape == (3, 48, 48)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_augmentation_follows_torchs_seed_and_no_other(colors, augment):
    transform, found = build_transform(CIFAR, augment=augment), []
    images = SeededDataset(LabeledImages(FolderImages(colors / "train"), transform))
    for other in range(2):
        random.seed(other)
        np.random.seed(other)
        found.append(images[3, 5][0])
    assert torch.equal(*found)
    assert augment == "none" or any(not torch.equal(found[0], images[3, seed][0]) for seed in range(6, 12))


def test_a_crop_moves_the_image_by_4_pixels_at_most():
    image = Image.new("RGB", (32, 32), "white")
    transform = build_transform(CIFAR, augment="crop")
    torch.manual_seed(0)
    bare = [(transform(image)[0] < 0).sum().item() for _ in range(50)]
    assert min(bare) < 40
    assert 100 < max(bare) <= 2 * 4 * 32 - 16


def test_a_shift_never_mirrors_the_image():
    image = Image.new("L", (28, 28))
    image.putpixel((7, 14), 255)
    transform = build_transform({**CIFAR, "input_size": (1, 28, 28), "mean": (0.0,), "std": (1.0,)}, augment="shift")
    torch.manual_seed(0)
    columns = {int(transform(image)[0].sum(0).argmax()) for _ in range(200)}
    assert columns == set(range(7 - 4, 7 + 4 + 1))


def test_an_evaluation_is_not_random(colors):
    images = LabeledImages(FolderImages(colors / "val"), build_transform(CIFAR))
    assert torch.equal(images[3][0], images[3][0])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="val: no such folder"):
        LabeledImages(FolderImages(tmp_path / "val"), build_transform(CIFAR))


def test_a_folder_without_classes_is_named(tmp_path):
    with pytest.raises(InputError, match="found no folder without images"):
        LabeledImages(FolderImages(tmp_path), build_transform(CIFAR))


def test_other_classes_are_refused(colors):
    with pytest.raises(InputError, match="has 3 classes, and 2 were expected: missing pink; unknown blue, green"):
        build_source(DataConfig(root=str(colors)), train=False, classes=["pink", "red"])


def test_a_damaged_image_is_named(colors, tmp_path):
    shutil.copytree(colors / "val", tmp_path / "val")
    (tmp_path / "val" / "red" / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"red/2\.png: no image, or a damaged one"):
        LabeledImages(FolderImages(tmp_path / "val"), build_transform(CIFAR), in_memory=True)


def test_an_unknown_augmentation_is_refused_with_the_near_ones():
    with pytest.raises(InputError, match=r"data\.augment.*crop"):
        DataConfig(augment="crops")


def test_images_are_turned_upright(tmp_path):
    (tmp_path / "a").mkdir()
    image = Image.new("RGB", (8, 4), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # the camera lay on its side
    image.save(tmp_path / "a" / "photo.jpg", exif=exif)
    assert LabeledImages(FolderImages(tmp_path), build_transform(CIFAR)).read(0).size == (4, 8)


def test_the_input_is_the_networks_or_of_the_size_that_is_asked_for(colors):
    digits = input_config(ModelConfig("odenet_mnist"))
    assert digits["input_size"] == (1, 28, 28)
    gray = LabeledImages(FolderImages(colors / "val"), build_transform(digits), mode="L")
    assert gray[0][0].shape == (1, 28, 28)
    assert input_config(ModelConfig("resnet18"), image_size=64)["input_size"] == (3, 64, 64)
    one_channel = input_config(ModelConfig("resnet18", {"in_chans": 1}))
    assert (one_channel["input_size"][0], len(one_channel["mean"])) == (1, 1)
