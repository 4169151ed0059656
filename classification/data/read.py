"""From a config to images: the only place that knows all data formats."""

from pathlib import Path

from classification.data.config import DataConfig
from classification.data.sources import (
    TORCHVISION,
    FolderImages,
    ImageSource,
    TorchvisionImages,
    require_classes,
)


def build_source(config: DataConfig, *, train: bool, classes: list[str] | None = None) -> ImageSource:
    """Build the source of the training or validation images that ``config`` names.

    Args:
        config: Data set, folder, splits.
        train: Whether to use the training split, or else the validation split.
        classes: Expected class names; None takes the classes that the data have.

    Raises:
        InputError: The images are missing, or belong to other classes.
    """
    root = Path(config.root)
    if config.format in TORCHVISION:
        name, source = config.format, TorchvisionImages(config.format, root, train=train, download=config.download)
    else:
        folder = root / (config.train if train else config.val)
        return FolderImages(folder, classes=classes, turn=config.exif != "ignore")
    if classes is not None:
        require_classes(name, source.classes, classes)
    return source
