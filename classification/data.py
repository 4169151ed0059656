"""Images with their classes, and how they become the network's input."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from classification.sources import (
    TORCHVISION,
    FolderImages,
    ImageSource,
    TorchvisionImages,
    require_classes,
)
from engine.image_files import Turning
from odebackbones.errors import InputError, unknown_name

Transform = Callable[[Image.Image], Tensor]

PADDING = 4
"""Of ``augment: shift`` and ``crop`` [px]."""

JITTER = (0.4, 0.4, 0.4)
"""Of brightness, contrast and saturation, as timm's for ImageNet."""

DATASETS = ("folder", *TORCHVISION)

MODES = {1: "L", 3: "RGB"}
"""Channels of the network's input -> Pillow's mode of the images."""


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how to augment them.

    Args:
        dataset: ``folder``, or torchvision's ``mnist``, ``fashion_mnist``, ``cifar10`` or ``cifar100``.
        root: Folder with a folder for each split, in which each class has a folder of images (torchvision's
            ImageFolder); or that of torchvision's data set.
        train: Folder of the training split in it; torchvision's have their own splits.
        val: Folder of the validation split in it.
        download: Fetch torchvision's data set if it is not in ``root``.
        augment: Of training images: ``none``; ``flip``; ``shift``, for digits (a crop after padding by 4 px); ``crop``,
            for small images (that, and flip: He et al. 2016, section 4.2); or ``imagenet``: a crop of any size, flip
            and color jitter.
        image_size: Side of the network's input [px]; null takes the network's own.
        in_memory: Decode the images once and keep them.
        verify: Decode every image before training, so that broken files are found then and not in training.
        exif: Images with an orientation in their EXIF data: ``auto`` and ``turn`` turn them upright, ``ignore``
            doesn't, in predictions, too.
        workers: Processes that load images; 0: the main one.
    """

    dataset: str = "folder"
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
        if self.dataset not in DATASETS:
            raise unknown_name("data.dataset", self.dataset, DATASETS)
        if self.augment not in AUGMENTATIONS:
            raise unknown_name("data.augment", self.augment, AUGMENTATIONS)
        if self.workers < 0:
            raise InputError(f"data.workers={self.workers}: expected at least 0")
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"data.image_size={self.image_size}: expected at least 1")


class LabeledImages(Dataset[tuple[Tensor, int]]):
    """Images with the numbers of their classes: ``(C, H, W)``, int.

    Args:
        source: Where they come from.
        transform: From a decoded image to the network's input.
        mode: Pillow's, of the images: ``RGB``, or ``L`` for one channel.
        in_memory: Decode the images once and keep them.

    Raises:
        InputError: An image can't be read.
    """

    def __init__(
        self, source: ImageSource, transform: Transform, *, mode: str = "RGB", in_memory: bool = False
    ) -> None:
        self.source, self.transform, self.mode = source, transform, mode
        self.classes, self.labels = source.classes, source.labels
        self.decoded = [self.read(i) for i in range(len(self))] if in_memory else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.decoded[index] if self.decoded else self.read(index)
        return self.transform(image), self.labels[index]

    def read(self, index: int) -> Image.Image:
        """The decoded image."""
        return self.source.read(index, mode=self.mode)


def build_source(config: DataConfig, *, train: bool, classes: list[str] | None = None) -> ImageSource:
    """The training or the validation images that ``config`` names.

    Args:
        config: Data set, folder, splits.
        train: Which.
        classes: Names of the classes that there must be; None takes those that there are.

    Raises:
        InputError: There are no such images, or of other classes.
    """
    root = Path(config.root)
    if config.dataset in TORCHVISION:
        name, source = config.dataset, TorchvisionImages(config.dataset, root, train=train, download=config.download)
    else:
        folder = root / (config.train if train else config.val)
        return FolderImages(folder, classes=classes, turn=config.exif != "ignore")
    if classes is not None:
        require_classes(name, source.classes, classes)
    return source


def sized(size: int) -> list[Any]:
    """To a square of ``size`` px: the shorter side resized, the middle taken."""
    return [v2.Resize(size), v2.CenterCrop(size)]


AUGMENTATIONS: dict[str, Callable[[int], list[Any]]] = {
    "none": lambda size: [],
    "flip": lambda size: [*sized(size), v2.RandomHorizontalFlip()],
    "shift": lambda size: [*sized(size), v2.RandomCrop(size, padding=PADDING)],
    "crop": lambda size: [*sized(size), v2.RandomCrop(size, padding=PADDING), v2.RandomHorizontalFlip()],
    "imagenet": lambda size: [
        v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(*JITTER),
    ],
}
"""Name -> transforms to a square of the network's size [px]. torchvision's: timm's draw from other generators than
torch's, which the run's seed does not reach."""


def build_transform(input_config: Mapping[str, Any], *, augment: str = "none") -> Transform:
    """timm's transform from an image to the network's input, after augmentation for training.

    Args:
        input_config: timm's, of the network (:func:`~classification.model.input_config`).
        augment: One of :data:`AUGMENTATIONS`.
    """
    before = AUGMENTATIONS[augment](input_config["input_size"][-1])
    if not before:
        return create_transform(**input_config)  # pyright: ignore[reportReturnType]
    normalized: Any = create_transform(**{**input_config, "crop_pct": 1.0})
    return v2.Compose([*before, normalized])


def describe(split: str, images: LabeledImages) -> str:
    """Images and classes of a split."""
    counts = [images.labels.count(label) for label in range(len(images.classes))]
    return f"{split}: {len(images)} images, {len(counts)} classes of {min(counts)} to {max(counts)} images"
