"""Where classified images come from: a folder for every class, or torchvision's data sets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torchvision import datasets

from odebackbones.engine.image_check import check_images
from odebackbones.engine.media import decode
from odebackbones.errors import InputError, first_of, listed

SHOWN = 200
"""Letters of an error of torchvision's."""


class ImageSource(Protocol):
    """Images that are read one by one, and the numbers of their classes."""

    classes: list[str]
    """Their names."""
    labels: list[int]
    """The number of each image's class."""

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """A decoded image in one of Pillow's modes."""
        ...

    def verify(self) -> None:
        """Refuse damaged images."""
        ...


class FolderImages:
    """A folder of images for every class (torchvision's ImageFolder), the classes in the order of the alphabet.

    Args:
        folder: Holds the folders.

    Raises:
        InputError: There is no such folder, or it has no images.
    """

    def __init__(self, folder: Path) -> None:
        expected = f"expected {folder}/CLASS/*.png (or .jpg, ...)"
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; {expected}")
        try:
            found = datasets.ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise InputError(f"{folder}: {expected}: {error}") from error
        self.classes = found.classes
        self.files, self.labels = map(list, zip(*found.samples, strict=True))

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """The decoded image, turned upright.

        Raises:
            InputError: It can't be read.
        """
        return decode(Path(self.files[index]), mode=mode)

    def verify(self) -> None:
        """Decode all images.

        Raises:
            InputError: Some can't be read; names the first of them.
        """
        found = zip(self.files, check_images([Path(file) for file in self.files], decode=True), strict=True)
        damaged = [f"{file}: {fault}" for file, fault in found if isinstance(fault, str)]
        if damaged:
            number = f"{len(damaged)} of {len(self.files)} images"
            raise InputError(f"{number} can't be read; mend or remove them: {'; '.join(first_of(damaged, 'of them'))}")


def require_classes(name: str, found: list[str], wanted: list[str]) -> None:
    """Refuse a data set of other classes."""
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        raise InputError(
            f"{name} has {len(found)} classes, and {len(wanted)} were expected: missing {listed(missing) or 'none'}; "
            f"unknown {listed(unknown) or 'none'}. Take the data of these classes (in a folder, one for each)"
        )


TORCHVISION: dict[str, Callable[..., Any]] = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "cifar10": datasets.CIFAR10,
    "cifar100": datasets.CIFAR100,
}
"""Name -> torchvision's data set."""


class TorchvisionImages:
    """One of torchvision's data sets.

    Args:
        name: A name of :data:`TORCHVISION`.
        root: Folder of the data, as torchvision lays it out.
        train: Whether the training or the test images.
        download: Fetch what is not there.

    Raises:
        InputError: It is not there, damaged, or can't be had.
    """

    def __init__(self, name: str, root: Path, *, train: bool, download: bool = False) -> None:
        try:
            self.images = TORCHVISION[name](str(root), train=train, download=download)
        except Exception as error:  # what torchvision raises on damaged files is of any kind
            advice = "check the network, and delete" if download else "--data.download true fetches it; first delete"
            reason = " ".join(str(error).split())[:SHOWN]
            raise InputError(f"data.root={root}: no whole {name} there ({reason}); {advice} a damaged copy") from error
        self.classes: list[str] = list(self.images.classes)
        self.labels = [int(label) for label in self.images.targets]

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """The image."""
        return self.images[index][0].convert(mode)

    def verify(self) -> None:
        """Nothing: torchvision has read them all."""
