"""Settings of labeled images."""

from dataclasses import dataclass

from classification.data.sources import TORCHVISION
from classification.data.transforms import AUGMENTATIONS
from engine.images.files import Turning
from odebackbones.errors import InputError, unknown_name

DATASETS = ("folder", *TORCHVISION)


@dataclass(frozen=True)
class DataConfig:
    """Which images to use, and how to augment them.

    Args:
        format: ``folder``, or torchvision's ``mnist``, ``fashion_mnist``, ``cifar10`` or ``cifar100``.
        root: Folder with one folder per split, each with one folder of images per class (torchvision's ImageFolder);
            or the folder of torchvision's data set.
        train: Folder of the training split in ``root``; torchvision's data sets have their own splits.
        val: Folder of the validation split in ``root``.
        download: Download torchvision's data set if it is not in ``root``.
        augment: Augmentation of training images: ``none``; ``flip``; ``shift``, for digits (a random crop after padding
            by 4 px); ``crop``, for small images (``shift`` and ``flip``: He et al. 2016, section 4.2); or ``imagenet``
            (a random resized crop, flip and color jitter).
        image_size: Side of the network's input [px]; null uses the network's own.
        in_memory: Decode the images once and keep them in memory.
        verify: Decode every image before training, so that broken files are found then and not during training.
        exif: Use of the orientation in the images' EXIF data: ``auto`` and ``turn`` turn images upright, ``ignore``
            does not; predictions do the same.
        workers: Processes that load images; 0 loads in the main process.
    """

    format: str = "folder"
    root: str = ""
    train: str = "train"
    val: str = "val"
    download: bool = False
    augment: str = "imagenet"
    image_size: int | None = None
    in_memory: bool = False
    verify: bool = True
    exif: Turning = "auto"
    workers: int = 2

    def __post_init__(self) -> None:
        if self.format not in DATASETS:
            raise unknown_name("data.format", self.format, DATASETS)
        if self.augment not in AUGMENTATIONS:
            raise unknown_name("data.augment", self.augment, AUGMENTATIONS)
        if self.workers < 0:
            raise InputError(f"data.workers={self.workers}: expected at least 0")
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"data.image_size={self.image_size}: expected at least 1")
