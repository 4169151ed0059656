"""Joint augmentation of an image and its depth map; depths are never interpolated."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from odebackbones.errors import InputError

Sample = tuple[Tensor, Tensor]
"""Image ``(3, H, W)`` uint8, and depth ``(H, W)`` [m], 0 where nothing was measured."""

Transform = Callable[[Sample], Sample]

SPARSE = 0.5
"""Share of measured pixels below which a depth map is sparse, and is reduced without skipping measured pixels."""

MAX_ZOOM = 1.25


def resize_pair(sample: Sample, size: Sequence[int] | None) -> Sample:
    """Resize both to ``size`` (height, width) [px]; None leaves them as they are."""
    image, depth = sample
    if size is None:
        return sample
    return functional.resize(image, list(size), antialias=True), resize_depth(depth, size)


def resize_depth(depth: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a depth map without interpolation: ``(H, W) -> size``.

    Each pixel takes the nearest pixel's depth; when a sparse map (LiDAR's) is reduced, it takes the least of the depths
    that fall on it, so that no point is skipped and near points hide far ones.

    Args:
        depth: ``(H, W)`` [m], 0 where nothing was measured.
        size: Height and width [px].
    """
    height, width = size
    reduced = height <= depth.shape[0] and width <= depth.shape[1]
    if not reduced or (depth > 0).float().mean() >= SPARSE:
        rows = nearest_indices(depth.shape[0], height)
        return depth[rows][:, nearest_indices(depth.shape[1], width)]
    rows, columns = depth.nonzero(as_tuple=True)
    places = rows * height // depth.shape[0] * width + columns * width // depth.shape[1]
    least = depth.new_full((height * width,), torch.inf).scatter_reduce(0, places, depth[rows, columns], "amin")
    return torch.where(least.isinf(), 0.0, least).reshape(height, width)


def nearest_indices(length: int, wanted: int) -> Tensor:
    """Return, for each of ``wanted`` pixels, the one of ``length`` pixels whose center is nearest to its center."""
    return ((torch.arange(wanted) + 0.5) * length / wanted).long().clamp(max=length - 1)


def flip(sample: Sample) -> Sample:
    """Swap left and right, with probability 1/2."""
    image, depth = sample
    return (image.flip(-1), depth.flip(-1)) if torch.rand(()) < 0.5 else sample


class Color:
    """A random change of the image's brightness, contrast and saturation."""

    def __init__(self) -> None:
        self.jitter = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3)

    def __call__(self, sample: Sample) -> Sample:
        """Return the pair with the image changed."""
        return self.jitter(sample[0]), sample[1]


def zoom(sample: Sample) -> Sample:
    """Enlarge a random part to the image's size, and divide the depth by the factor, as nearer things look larger."""
    height, width = sample[1].shape
    factor = float(torch.empty(()).uniform_(1, MAX_ZOOM))
    image, depth = RandomCrop((round(height / factor), round(width / factor)))(sample)
    image, depth = resize_pair((image, depth), (height, width))
    return image, depth / factor


class RandomCrop:
    """A random crop of an image and its depth.

    Args:
        size: Height and width of the crop [px].
    """

    def __init__(self, size: Sequence[int]) -> None:
        self.size = tuple(size)

    def __call__(self, sample: Sample) -> Sample:
        """Crop the pair.

        Raises:
            InputError: The image is smaller than the crop.
        """
        image, depth = sample
        spare = [has - wants for has, wants in zip(depth.shape, self.size, strict=True)]
        if min(spare) < 0:
            raise InputError(
                f"data.crop={list(self.size)} is larger than an image of {list(depth.shape)} px; see data.size"
            )
        top, left = (int(torch.randint(room + 1, ())) for room in spare)
        rows, columns = slice(top, top + self.size[0]), slice(left, left + self.size[1])
        return image[:, rows, columns], depth[rows, columns]


AUGMENTATIONS: dict[str, Callable[[], list[Transform]]] = {
    "none": list,
    "flip": lambda: [flip],
    "color": lambda: [flip, Color()],
    "scale": lambda: [flip, zoom, Color()],
}
"""Name -> function that builds the transforms, which draw from torch's generator, seeded by the run."""
