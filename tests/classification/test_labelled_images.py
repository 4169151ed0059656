import shutil

import pytest
import torch
from PIL import Image

from odebackbones.classification.data import AUGMENTATIONS, DataConfig, LabelledImages, build_transform
from odebackbones.errors import InputError

CIFAR = {"input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}


def test_labels_are_the_places_of_the_folders_in_the_alphabet(colours):
    images = LabelledImages(colours / "val")
    images.transform = build_transform(CIFAR)
    assert images.classes == ["blue", "green", "red"]
    assert len(images) == 12
    pixels, label = images[11]
    assert (pixels.shape, label) == ((3, 32, 32), 2)
    assert pixels.mean((1, 2)).argmax() == 0  # the last one is red


def test_images_in_memory_are_the_same(colours):
    read, kept = (LabelledImages(colours / "val", in_memory=value) for value in (False, True))
    read.transform = kept.transform = build_transform(CIFAR)
    assert all(torch.equal(read[i][0], kept[i][0]) for i in range(12))


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_augmented_images_have_the_size_of_the_others(colours, augment):
    images = LabelledImages(colours / "train")
    images.transform = build_transform(CIFAR, augment=augment)
    assert images[0][0].shape == (3, 32, 32)


def test_a_crop_moves_the_image_by_4_pixels_at_most():
    image = Image.new("RGB", (32, 32), "white")
    transform = build_transform(CIFAR, augment="crop")
    torch.manual_seed(0)
    bare = [(transform(image)[0] < 0).sum().item() for _ in range(50)]
    assert min(bare) == 0 or min(bare) < 40
    assert 100 < max(bare) <= 2 * 4 * 32 - 16


def test_an_evaluation_is_not_random(colours):
    images = LabelledImages(colours / "val")
    images.transform = build_transform(CIFAR)
    assert torch.equal(images[3][0], images[3][0])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="val: no such folder"):
        LabelledImages(tmp_path / "val")


def test_a_folder_without_classes_is_named(tmp_path):
    with pytest.raises(InputError, match="find any class folder"):
        LabelledImages(tmp_path)


def test_other_classes_are_refused(colours):
    with pytest.raises(InputError, match=r"blue, green, red \(3\), and blue, red \(2\) were expected"):
        LabelledImages(colours / "val", classes=["blue", "red"])


def test_a_damaged_image_is_named(colours, tmp_path):
    shutil.copytree(colours / "val", tmp_path / "val")
    (tmp_path / "val" / "red" / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"red/2\.png: no image, or a damaged one"):
        LabelledImages(tmp_path / "val", in_memory=True)


def test_an_unknown_augmentation_is_refused_with_the_near_ones():
    with pytest.raises(InputError, match=r"data\.augment.*crop"):
        DataConfig(augment="crops")
