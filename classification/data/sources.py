"""Sources of labeled images: one folder per class, or torchvision's data sets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torchvision import datasets

from engine.images.check import inspect_images
from engine.images.files import has_image_suffix
from engine.images.media import decode
from engine.log import warn
from odebackbones.errors import InputError, join_names, truncate

SHOWN = 200
"""Number of characters shown of an error from torchvision."""


class ImageSource(Protocol):
    """Images that are read one by one, and their class indices."""

    classes: list[str]
    """Names of the classes."""
    labels: list[int]
    """Class index of each image."""
    names: list[str]
    """Name of each image, the same on every machine."""

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """Read and decode an image in one of Pillow's modes."""
        ...

    def verify(self) -> None:
        """Refuse damaged images."""
        ...


class FolderImages:
    """One folder of images per class (torchvision's ImageFolder), with the classes in alphabetical order.

    Args:
        folder: Folder that holds the class folders.
        classes: Class names in the order of the labels, if known; some classes may have no images here.
        turn: Turn images upright according to their EXIF data.

    Raises:
        InputError: The folder is missing, has no images, or has folders of other classes.
    """

    def __init__(self, folder: Path, *, classes: list[str] | None = None, turn: bool = True) -> None:
        expected = f"expected {folder}/CLASS/*.png (or .jpg, ...)"
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; {expected}")
        found = class_folders(folder)
        if classes is not None:
            require_classes(str(folder), found, classes)
        self.classes, self.turn = classes or found, turn
        images = [sorted(f for f in (folder / name).rglob("*") if is_image(f)) for name in self.classes]
        empty = [name for name, files in zip(self.classes, images, strict=True) if not files]
        if len(empty) == len(images):
            raise InputError(f"{folder}: {expected}, found {join_names(found) or 'no folder'} without images")
        if empty:
            warn(f"{folder}: no images of {len(empty)} classes: {join_names(empty)}")
        self.files = [str(file) for files in images for file in files]
        self.labels = [label for label, files in enumerate(images) for _ in files]
        self.names = [Path(file).relative_to(folder).as_posix() for file in self.files]

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """Read and decode an image.

        Raises:
            InputError: The image can't be read.
        """
        return decode(Path(self.files[index]), mode=mode, turn=self.turn)

    def verify(self) -> None:
        """Decode all images.

        Raises:
            InputError: Some images can't be read; the message names the first ones.
        """
        found = zip(self.files, inspect_images([Path(file) for file in self.files], decode=True), strict=True)
        damaged = [f"{file}: {fault}" for file, fault in found if isinstance(fault, str)]
        if damaged:
            number = f"{len(damaged)} of {len(self.files)} images"
            raise InputError(f"{number} can't be read; mend or remove them: {'; '.join(truncate(damaged, 'of them'))}")


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the class folders, without folders that operating systems and tools leave."""
    return sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith((".", "__MACOSX", "@eaDir")))


def is_image(file: Path) -> bool:
    """Whether a file is an image and not hidden."""
    return has_image_suffix(file) and not file.name.startswith(".")


def require_classes(name: str, found: list[str], wanted: list[str]) -> None:
    """Refuse a data set with unexpected classes."""
    if unknown := sorted(set(found) - set(wanted)):
        missing = sorted(set(wanted) - set(found))
        raise InputError(
            f"{name} has {len(found)} classes, and {len(wanted)} were expected: missing "
            f"{join_names(missing) or 'none'}; unknown {join_names(unknown)}. Take the "
            f"data of these classes (in a folder, one for each)"
        )


TORCHVISION: dict[str, Callable[..., Any]] = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "cifar10": datasets.CIFAR10,
    "cifar100": datasets.CIFAR100,
}
"""Name -> class of torchvision's data set."""


class TorchvisionImages:
    """One of torchvision's data sets.

    Args:
        name: A name of :data:`TORCHVISION`.
        root: Folder of the data, in torchvision's layout.
        train: Whether to use the training images, or else the test images.
        download: Download what is missing.

    Raises:
        InputError: The data set is missing or damaged, or can't be downloaded.
    """

    def __init__(self, name: str, root: Path, *, train: bool, download: bool = False) -> None:
        try:
            self.images = TORCHVISION[name](str(root), train=train, download=download)
        except Exception as error:  # torchvision raises errors of any type on damaged files
            advice = "check the network, and delete" if download else "--data.download true fetches it; first delete"
            reason = " ".join(str(error).split())[:SHOWN]
            raise InputError(
                f"data.root={root}: incomplete or missing {name} ({reason}); {advice} a damaged copy"
            ) from error
        self.classes: list[str] = list(self.images.classes)
        self.labels = [int(label) for label in self.images.targets]
        self.names = [f"{name} {number}" for number in range(len(self.labels))]

    def read(self, index: int, *, mode: str = "RGB") -> Image.Image:
        """Read an image."""
        return self.images[index][0].convert(mode)

    def verify(self) -> None:
        """Do nothing: torchvision has already read all images."""
