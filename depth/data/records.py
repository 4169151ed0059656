"""Records of the pairs of any data set, which the readers return and the torch dataset reads."""

import math
from dataclasses import dataclass
from pathlib import Path

from depth.data.units import Unit
from engine.images.files import Turning


@dataclass(frozen=True)
class DepthPair:
    """An image and its depth map.

    Attributes:
        name: Unique name in the data set, without a suffix, by which predictions in files are found.
        image: Image file.
        depth: File of the depth map.
    """

    name: str
    image: Path
    depth: Path


@dataclass(frozen=True)
class DepthPairs:
    """A split of a data set.

    Attributes:
        name: Name of the folder or list, for messages and reports.
        pairs: Pairs in the data set's order.
        unit: Unit of the depth maps.
        problems: Problems of the pairs that were left out, one line each.
        exif: Use of the orientation in an image's EXIF data.
        limit: Depth [m] beyond which a value means "nothing there".
    """

    name: str
    pairs: tuple[DepthPair, ...]
    unit: Unit
    problems: tuple[str, ...] = ()
    exif: Turning = "auto"
    limit: float = math.inf

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return [pair.image.name for pair in self.pairs]
