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

from odebackbones.engine.media import decode
from odebackbones.errors import InputError, unknown_name

Transform = Callable[[Image.Image], Tensor]

PADDING = 4
"""Of ``augment: crop`` [px]."""

JITTER = (0.4, 0.4, 0.4)
"""Of brightness, contrast and saturation, as timm's for ImageNet."""

MODES = {1: "L", 3: "RGB"}
"""Channels of the network's input -> Pillow's mode of the images."""


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how to augment them.

    Args:
        root: Folder with a folder for each split, in which each class has a folder of images (torchvision's
            ImageFolder).
        train: Folder of the training split in it.
        val: Folder of the validation split in it.
        augment: Of training images: ``none``; ``flip``; ``crop``, for small images (a crop after padding by 4 px, and
            flip: He et al. 2016, section 4.2); or ``imagenet``: a crop of any size, flip and colour jitter.
        image_size: Side of the network's input [px]; null takes the network's own.
        in_memory: Decode the images once and keep them.
        workers: Processes that load images; 0: the main one.
    """

    root: str = ""
    train: str = "train"
    val: str = "val"
    augment: str = "imagenet"
    image_size: int | None = None
    in_memory: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        if self.augment not in AUGMENTATIONS:
            raise unknown_name("data.augment", self.augment, AUGMENTATIONS)
        if self.workers < 0:
            raise InputError(f"data.workers={self.workers}: expected at least 0")
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"data.image_size={self.image_size}: expected at least 1")


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images with the numbers of their classes: ``(C, H, W)``, int.

    Args:
        folder: Holds a folder of images for every class.
        transform: From a decoded image to the network's input.
        classes: Names of the classes that there must be; None takes those that there are, by alphabet.
        mode: Pillow's, of the images: ``RGB``, or ``L`` for one channel.
        in_memory: Decode the images once and keep them.

    Raises:
        InputError: There is no such folder, it has no images or other classes, or an image can't be read.
    """

    def __init__(
        self,
        folder: Path,
        transform: Transform,
        *,
        classes: list[str] | None = None,
        mode: str = "RGB",
        in_memory: bool = False,
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected {folder}/CLASS/*.png (or .jpg, ...)")
        try:
            found = ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise InputError(f"{folder}: expected {folder}/CLASS/*.png (or .jpg, ...): {error}") from error
        if classes is not None:
            require_classes(folder, found.classes, classes)
        self.classes, self.samples, self.transform, self.mode = found.classes, found.samples, transform, mode
        self.decoded = [self.read(i) for i in range(len(self))] if in_memory else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.decoded[index] if self.decoded else self.read(index)
        return self.transform(image), self.samples[index][1]

    def read(self, index: int) -> Image.Image:
        """The decoded image, as stored but for its orientation."""
        return decode(Path(self.samples[index][0]), mode=self.mode)


def require_classes(folder: Path, found: list[str], wanted: list[str]) -> None:
    """Refuse a folder of other classes."""
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        raise InputError(
            f"{folder} has {len(found)} classes, and {len(wanted)} were expected: missing {shown(missing)}; unknown "
            f"{shown(unknown)}. Give each class a folder with at least one image"
        )


def shown(names: list[str]) -> str:
    """The first of them."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "none"


def sized(size: int) -> list[Any]:
    """To a square of ``size`` px: the shorter side resized, the middle taken."""
    return [v2.Resize(size), v2.CenterCrop(size)]


AUGMENTATIONS: dict[str, Callable[[int], list[Any]]] = {
    "none": lambda size: [],
    "flip": lambda size: [*sized(size), v2.RandomHorizontalFlip()],
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
        input_config: timm's, of the network (:func:`~odebackbones.classification.model.input_config`).
        augment: One of :data:`AUGMENTATIONS`.
    """
    before = AUGMENTATIONS[augment](input_config["input_size"][-1])
    if not before:
        return create_transform(**input_config)  # pyright: ignore[reportReturnType]
    normalised: Any = create_transform(**{**input_config, "crop_pct": 1.0})
    return v2.Compose([*before, normalised])
