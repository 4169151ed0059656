"""Transforms and augmentation from images to the network's input."""

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision.transforms import v2

Transform = Callable[[Image.Image], Tensor]

PADDING = 4
"""Padding of ``augment: shift`` and ``crop`` [px]."""

JITTER = (0.4, 0.4, 0.4)
"""Jitter of brightness, contrast and saturation, as in timm for ImageNet."""


MODES = {1: "L", 3: "RGB"}
"""Number of the network's input channels -> Pillow mode of the images."""


def resize_and_crop(size: int) -> list[Any]:
    """Return transforms to a square of ``size`` px: resize the shorter side, then crop the center."""
    return [v2.Resize(size), v2.CenterCrop(size)]


AUGMENTATIONS: dict[str, Callable[[int], list[Any]]] = {
    "none": lambda size: [],
    "flip": lambda size: [*resize_and_crop(size), v2.RandomHorizontalFlip()],
    "shift": lambda size: [*resize_and_crop(size), v2.RandomCrop(size, padding=PADDING)],
    "crop": lambda size: [*resize_and_crop(size), v2.RandomCrop(size, padding=PADDING), v2.RandomHorizontalFlip()],
    "imagenet": lambda size: [
        v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(*JITTER),
    ],
}
"""Name -> transforms to a square of the network's size [px]. The transforms are torchvision's, since timm's draw from
generators other than torch's, which the run's seed does not control."""


def build_transform(input_config: Mapping[str, Any], *, augment: str = "none") -> Transform:
    """Build timm's transform from an image to the network's input, after augmentation for training.

    Args:
        input_config: timm's description of the network's input (:func:`~classification.model.input_config`).
        augment: One of :data:`AUGMENTATIONS`.
    """
    before = AUGMENTATIONS[augment](input_config["input_size"][-1])
    if not before:
        return create_transform(**input_config)  # pyright: ignore[reportReturnType]
    normalized: Any = create_transform(**{**input_config, "crop_pct": 1.0})
    return v2.Compose([*before, normalized])
