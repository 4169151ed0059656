"""Labeled images as a torch data set."""

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from classification.data.sources import ImageSource
from classification.data.transforms import Transform


class LabeledImages(Dataset[tuple[Tensor, int]]):
    """Images with their class indices: ``(C, H, W)``, int.

    Args:
        source: Source of the images.
        transform: Maps a decoded image to the network's input.
        mode: Pillow mode of the images: ``RGB``, or ``L`` for one channel.
        in_memory: Decode the images once and keep them in memory.

    Raises:
        InputError: An image can't be read.
    """

    def __init__(
        self, source: ImageSource, transform: Transform, *, mode: str = "RGB", in_memory: bool = False
    ) -> None:
        self.source, self.transform, self.mode = source, transform, mode
        self.classes, self.labels, self.names = source.classes, source.labels, source.names
        self.decoded = [self.read(i) for i in range(len(self))] if in_memory else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.decoded[index] if self.decoded else self.read(index)
        return self.transform(image), self.labels[index]

    def read(self, index: int) -> Image.Image:
        """Read and decode an image."""
        return self.source.read(index, mode=self.mode)


def describe(split: str, images: LabeledImages) -> str:
    """Describe the numbers of images and classes of a split."""
    counts = [images.labels.count(label) for label in range(len(images.classes))]
    return f"{split}: {len(images)} images, {len(counts)} classes of {min(counts)} to {max(counts)} images"
