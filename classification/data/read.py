"""From a config to images: the one place that knows all forms of data."""

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
    """The training or the validation images that ``config`` names.

    Args:
        config: Data set, folder, splits.
        train: Which.
        classes: Names of the classes that there must be; None takes those that there are.

    Raises:
        InputError: There are no such images, or of other classes.
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
