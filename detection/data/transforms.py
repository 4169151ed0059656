"""Augmentations as in torchvision's references/detection/presets.py. The detector itself normalizes and resizes."""

from collections.abc import Callable
from typing import Any

import torch
from torchvision.transforms import v2

from odebackbones.errors import unknown_name

FILL = (124, 116, 104)
"""ImageNet's mean color, RGB in 0..255, which fills the areas added by zooming out or padding."""

LSJ_SIZE = (1024, 1024)
"""Height and width [px] of large-scale jitter (Ghiasi et al., "Simple Copy-Paste", CVPR 2021)."""


def _fields(inputs: tuple[Any, dict[str, Any]]) -> tuple[torch.Tensor, ...]:
    """Return the fields that must lose the same entries as the boxes."""
    return tuple(inputs[1][key] for key in ("labels", "area", "iscrowd"))


def _sanitize() -> v2.Transform:
    return v2.SanitizeBoundingBoxes(labels_getter=_fields)


def _ssd() -> list[v2.Transform]:
    """Build SSD's color distortion, zoom-out and crop (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016)."""
    return [
        v2.RandomPhotometricDistort(),
        v2.RandomZoomOut(fill=FILL),
        v2.RandomIoUCrop(),
        v2.RandomHorizontalFlip(),
        _sanitize(),
    ]


def _lsj() -> list[v2.Transform]:
    """Build large-scale jitter: scale by 0.1..2, then pad and crop to a fixed size."""
    return [
        v2.ScaleJitter(target_size=LSJ_SIZE),
        v2.RandomCrop(LSJ_SIZE, pad_if_needed=True, fill=FILL),
        v2.RandomHorizontalFlip(),
        _sanitize(),
    ]


AUGMENTATIONS: dict[str, Callable[[], list[v2.Transform]]] = {
    "none": list,
    "flip": lambda: [v2.RandomHorizontalFlip()],
    "ssd": _ssd,
    "lsj": _lsj,
}


def build_transforms(augment: str) -> v2.Compose:
    """Build the transforms of a sample: uint8 image and target -> float32 image in [0, 1] (3, H, W) and target.

    They move boxes and drop those that vanish, together with their labels, area and iscrowd; ``area`` keeps its value
    from the file. Results are plain tensors.

    Args:
        augment: Name of one of ``AUGMENTATIONS``; evaluation takes ``"none"``.
    """
    if augment not in AUGMENTATIONS:
        raise unknown_name("augmentation", augment, AUGMENTATIONS)
    return v2.Compose([*AUGMENTATIONS[augment](), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])
