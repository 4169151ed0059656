"""Common format of all data sets, which the readers return and the dataset serves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

IGNORE_LABEL = 0
"""Label of a region of no class (KITTI's DontCare); torchvision's label of the background."""


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """An image and its N objects.

    Args:
        image_id: Id, unique in the data set.
        path: The image file.
        width: Width of the image as it is served [px].
        height: Height of the image as it is served [px].
        boxes: Corners x1, y1, x2, y2 [px], inside the image, (N, 4) float32.
        labels: Labels 1..C, or ``IGNORE_LABEL`` for a region of no class, (N,) int64.
        crowd: Regions ignored in matching: COCO's crowds, VOC's difficult, KITTI's DontCare, (N,) bool.
        area: Area of the object [px^2]; in COCO the area of the segment, (N,) float32.
        turned: Whether to turn the file's image upright by its EXIF data, because the boxes refer to it that way.
    """

    image_id: int
    path: Path
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    turned: bool = False

    @property
    def identity(self) -> str:
        """What tells the image from others of its name in other sets: name, size and number of objects."""
        return f"{self.path.name} {self.width}x{self.height} {len(self.boxes)}"


@dataclass(frozen=True, eq=False)
class Annotations:
    """A split of a data set.

    Args:
        name: The annotation file or folder, for messages and reports.
        images: Images in the data set's order; those without objects are kept.
        classes: Class names; ``classes[i]`` is the name of label i + 1.
        category_ids: The data set's own id for each label; COCO's have gaps, others are 1..C.
        problems: Problems that a lenient reading repaired or left out, one line each.
    """

    name: str
    images: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: tuple[str, ...] = ()
