"""What the user can set about classified images."""

from dataclasses import dataclass

from classification.data.sources import TORCHVISION
from classification.data.transforms import AUGMENTATIONS
from engine.images.files import Turning
from odebackbones.errors import InputError, unknown_name

DATASETS = ("folder", *TORCHVISION)


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how to augment them.

    Args:
        format: ``folder``, or torchvision's ``mnist``, ``fashion_mnist``, ``cifar10`` or ``cifar100``.
        root: Folder with a folder for each split, in which each class has a folder of images (torchvision's
            ImageFolder); or the folder of torchvision's data set.
        train: Folder of the training split in it; torchvision's have their own splits.
        val: Folder of the validation split in it.
        download: Fetch torchvision's data set if it is not in ``root``.
        augment: For training images: ``none``; ``flip``; ``shift``, for digits (a crop after padding by 4 px);
            ``crop``, for small images (the same and flip: He et al. 2016, section 4.2); or ``imagenet``: a crop of any
            size, flip and color jitter.
        image_size: Side of the network's input [px]; null takes the network's own.
        in_memory: Decode the images once and keep them.
        verify: Decode every image before training, so that broken files are found then and not in training.
        exif: Images with an orientation in their EXIF data: ``auto`` and ``turn`` turn them upright, ``ignore``
            doesn't, in predictions, too.
        workers: Processes that load images; 0: the main one.
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
