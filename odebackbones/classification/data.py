"""Images in a folder for every class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from odebackbones.errors import InputError, unknown_name

Transform = Callable[[Image.Image], Tensor]

PADDING = 4
"""Of ``augment: crop`` [px]."""


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how to augment them.

    Args:
        root: Folder with a folder for each split, in which each class has a folder of images (torchvision's
            ImageFolder).
        train: Folder of the training split in it.
        val: Folder of the validation split in it.
        augment: Of training images: ``none``; ``flip``; ``crop``, for small images (a crop after padding by 4 px, and
            flip: He et al. 2016, section 4.2); or ``imagenet``, timm's crop of any size, flip and colour jitter.
        in_memory: Decode the images once and keep them.
        workers: Processes that load images; 0: the main one.
    """

    root: str = ""
    train: str = "train"
    val: str = "val"
    augment: str = "imagenet"
    in_memory: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        if self.augment not in AUGMENTATIONS:
            raise unknown_name("data.augment", self.augment, AUGMENTATIONS)
        if self.workers < 0:
            raise InputError(f"data.workers={self.workers}: expected at least 0")


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images with the numbers of their classes: ``(3, H, W)``, int.

    Args:
        folder: Holds a folder of images for every class.
        classes: Names of the classes that there must be; None takes those that there are, by alphabet.
        in_memory: Decode the images once and keep them.

    Attributes:
        transform: From a decoded image to the network's input; to be set before the first image is taken.

    Raises:
        InputError: There is no such folder, it has no images or other classes, or an image can't be read.
    """

    transform: Transform

    def __init__(self, folder: Path, *, classes: list[str] | None = None, in_memory: bool = False) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected data.root/SPLIT/CLASS/*.png (or jpg, ...)")
        try:
            found = ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise InputError(f"{folder}: {error}") from error
        if classes is not None and found.classes != classes:
            raise InputError(f"{folder} has the classes {shown(found.classes)}, and {shown(classes)} were expected")
        self.classes, self.samples = found.classes, found.samples
        self.decoded = [read(path) for path, _ in self.samples] if in_memory else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        return self.transform(self.decoded[index] if self.decoded else read(path)), label


def read(path: str) -> Image.Image:
    """The decoded image, RGB.

    Raises:
        InputError: It can't be read.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: no image, or a damaged one ({error}); re-download it or leave it out") from error


def shown(classes: list[str]) -> str:
    """The first names and the number of all."""
    return f"{', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''} ({len(classes)})"


AUGMENTATIONS: dict[str, Callable[[int], list[Any]]] = {
    "none": lambda size: [],
    "flip": lambda size: [v2.RandomHorizontalFlip()],
    "crop": lambda size: [v2.RandomCrop(size, padding=PADDING), v2.RandomHorizontalFlip()],
    "imagenet": lambda size: [],
}
"""Name -> what comes before timm's transform, given the side of its input [px]."""


def build_transform(data_config: Mapping[str, Any], *, augment: str | None = None) -> Transform:
    """timm's transform to the network's input; with augmentation for training.

    Args:
        data_config: timm's, of the network (``timm.data.resolve_model_data_config``).
        augment: One of :data:`AUGMENTATIONS`; None for an evaluation.
    """
    timms: Any = create_transform(**data_config, is_training=augment == "imagenet")
    if augment is None:
        return timms
    before = AUGMENTATIONS[augment](data_config["input_size"][-1])
    return v2.Compose([*before, timms]) if before else timms
