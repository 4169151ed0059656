"""One form for all data sets: what the readers return and the dataset serves."""

import math
from dataclasses import dataclass
from pathlib import Path

from depth.data.units import Unit
from engine.images.files import Turning


@dataclass(frozen=True)
class DepthPair:
    """An image and its depth map.

    Attributes:
        name: Unique in its data set, without an ending: by it predictions in files are found.
        image: The image file.
        depth: The file of its depth map.
    """

    name: str
    image: Path
    depth: Path


@dataclass(frozen=True)
class DepthPairs:
    """A split of a data set.

    Attributes:
        name: Folder or list, for messages and reports.
        pairs: In the data set's order.
        unit: Unit of the depth maps.
        problems: Pairs that were left out, one line each.
        exif: What an orientation in an image's EXIF data does.
        limit: A depth from which on it stands for "nothing there" [m].
    """

    name: str
    pairs: tuple[DepthPair, ...]
    unit: Unit
    problems: tuple[str, ...] = ()
    exif: Turning = "auto"
    limit: float = math.inf
