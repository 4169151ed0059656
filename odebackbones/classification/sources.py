"""Where classified images come from: a folder for every class, or torchvision's data sets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torchvision import datasets

from odebackbones.engine.distributed import main_process_first
from odebackbones.engine.media import decode
from odebackbones.errors import InputError, listed


class ImageSource(Protocol):
    """Images that are read one by one, and the numbers of their classes."""

    classes: list[str]
    """Their names."""
    labels: list[int]
    """The number of each image's class."""

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """A decoded image in one of Pillow's modes."""
        ...


class FolderImages:
    """A folder of images for every class (torchvision's ImageFolder), the classes in the order of the alphabet.

    Args:
        folder: Holds the folders.
        classes: Names of the classes that there must be; None takes those that there are.

    Raises:
        InputError: There is no such folder, or it has no images or other classes.
    """

    def __init__(self, folder: Path, *, classes: list[str] | None = None) -> None:
        expected = f"expected {folder}/CLASS/*.png (or .jpg, ...)"
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; {expected}")
        try:
            found = datasets.ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise InputError(f"{folder}: {expected}: {error}") from error
        if classes is not None:
            require_classes(folder, found.classes, classes)
        self.classes = found.classes
        self.files, self.labels = map(list, zip(*found.samples, strict=True))

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """The decoded image, turned upright.

        Raises:
            InputError: It can't be read.
        """
        return decode(Path(self.files[index]), mode=mode)


def require_classes(folder: Path, found: list[str], wanted: list[str]) -> None:
    """Refuse a folder of other classes."""
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        raise InputError(
            f"{folder} has {len(found)} classes, and {len(wanted)} were expected: missing {listed(missing) or 'none'}; "
            f"unknown {listed(unknown) or 'none'}. Give each class a folder with at least one image"
        )


TORCHVISION: dict[str, Callable[..., Any]] = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "cifar10": datasets.CIFAR10,
    "cifar100": datasets.CIFAR100,
}
"""Name -> torchvision's data set."""


class TorchvisionImages:
    """One of torchvision's data sets, which checks its files against known sums.

    Args:
        name: A name of :data:`TORCHVISION`.
        root: Folder of the data, as torchvision lays it out.
        train: Whether the training or the test images.
        download: Fetch what is not there.

    Raises:
        InputError: It is not there, or can't be had.
    """

    def __init__(self, name: str, root: Path, *, train: bool, download: bool = False) -> None:
        try:
            with main_process_first():
                self.images = TORCHVISION[name](str(root), train=train, download=download)
        except (RuntimeError, OSError) as error:
            raise InputError(
                f"data.root={root}: no whole {name} there ({error}); --data.download true fetches it"
            ) from error
        self.classes: list[str] = list(self.images.classes)
        self.labels = [int(label) for label in self.images.targets]

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """The image."""
        return self.images[index][0].convert(mode)
