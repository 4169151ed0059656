"""timm's default configuration of the models: their image format, and the names of their first and last layers."""

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import get_pretrained_cfg

IMAGE_FORMAT = (
    *("input_size", "pool_size", "crop_pct", "interpolation", "mean", "std"),
    *("test_input_size", "test_crop_pct"),
)
"""timm's settings of the images that a network takes."""


def default_cfg(**kwargs: Any) -> dict[str, Any]:
    """Return timm's ImageNet ResNet config, updated with ``kwargs``."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "apache-2.0",
        **kwargs,
    }


def default_cfg_like(name: str) -> dict[str, Any]:
    """Return a config with the images of timm's model of this name, so that a model in its place sees the same."""
    theirs = get_pretrained_cfg(name)
    found = {setting: getattr(theirs, setting, None) for setting in IMAGE_FORMAT}
    return default_cfg(**{setting: value for setting, value in found.items() if value is not None})
