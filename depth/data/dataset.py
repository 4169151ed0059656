"""Depth pairs as a torch dataset."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from depth.data.depth_files import read_depth
from depth.data.records import DepthPair, DepthPairs
from depth.data.transforms import Sample, Transform
from engine.images.files import ImageFacts, Turning
from engine.images.media import decode
from odebackbones.errors import InputError

SAME_SHAPE = 0.02
"""Allowed relative difference between the proportions of an image and its depth map; ScanNet's 1296x968 and 640x480
differ by 0.4 %. The image is resized, never the truth."""


class DepthDataset(Dataset[Sample]):
    """A data set of images ``(3, H, W)`` in [0, 1] and depth maps ``(1, H, W)`` [m], 0 where nothing was measured.

    Args:
        pairs: Pairs to read.
        transforms: Transforms of an image in uint8 and its depth, applied in order.
        cut: Transform that is applied to both right after reading.
        in_memory: Keep the decoded pairs in memory.
    """

    def __init__(
        self,
        pairs: DepthPairs,
        transforms: Sequence[Transform] = (),
        *,
        cut: Transform | None = None,
        in_memory: bool = False,
    ) -> None:
        self.pairs, self.transforms, self.cut = pairs, transforms, cut
        self.decoded = [self.read(i) for i in range(len(self))] if in_memory else None

    def __len__(self) -> int:
        return len(self.pairs.pairs)

    def __getitem__(self, index: int) -> Sample:
        sample = self.decoded[index] if self.decoded else self.read(index)
        for transform in self.transforms:
            sample = transform(sample)
        image, depth = sample
        return functional.to_dtype(image, torch.float32, scale=True), depth[None]

    def read(self, index: int) -> Sample:
        """Read and cut a pair.

        Raises:
            InputError: The pair can't be read or cut.
        """
        sample = decode_pair(self.pairs.pairs[index], self.pairs)
        return sample if self.cut is None else self.cut(sample)

    def depth(self, index: int) -> Tensor:
        """Read only the depth map ``(H, W)`` [m], uncut."""
        return measured_depth(self.pairs.pairs[index], self.pairs)


def measured_depth(pair: DepthPair, pairs: DepthPairs) -> Tensor:
    """Read a depth map ``(H, W)`` [m], 0 where nothing was measured."""
    depth = torch.from_numpy(read_depth(pair.depth, unit=pairs.unit))
    return depth if math.isinf(pairs.limit) else torch.where(depth > pairs.limit, 0.0, depth)


def decode_pair(pair: DepthPair, pairs: DepthPairs) -> Sample:
    """Read an image ``(3, H, W)`` uint8, turned and resized to match its depth map, and the depth ``(H, W)`` [m].

    Raises:
        InputError: A file can't be read, their shapes differ, or it is unclear whether to turn the image.
    """
    depth = measured_depth(pair, pairs)
    image = torch.from_numpy(decode_as(pair, depth.shape, pairs.exif)).permute(2, 0, 1)
    if image.shape[1:] == depth.shape:
        return image, depth
    if not is_near(proportion(image.shape[1:]), proportion(depth.shape)):
        sizes = " and ".join(f"{height}x{width} px" for height, width in (image.shape[1:], depth.shape))
        raise InputError(f"{pair.image} and {pair.depth} are of {sizes}; expected pairs of one shape")
    return functional.resize(image, list(depth.shape), antialias=True), depth


def decode_as(pair: DepthPair, size: Sequence[int], exif: Turning) -> np.ndarray:
    """Read the image ``(H, W, 3)`` uint8, upright or as stored; ``auto`` decides by the depth map's size.

    Raises:
        InputError: The image can't be read, or the depth map's size does not decide it.
    """
    unclear: list[int] = []

    def turns(facts: ImageFacts) -> bool:
        upright, stored = facts.upright[::-1], facts.size[::-1]
        if upright != stored and tuple(size) in (upright, stored):
            return tuple(size) == upright
        if facts.orientation > 1 and (upright == stored or is_near(proportion(upright), proportion(stored))):
            unclear.append(facts.orientation)
        return is_near(proportion(upright), proportion(size))

    image = decode(pair.image, turn=turns if exif == "auto" else exif == "turn")
    if unclear:
        raise InputError(
            f"{pair.image} has the EXIF orientation {unclear[0]}, by which it is turned or mirrored and keeps its "
            f"shape, so that {pair.depth.name} does not tell whether it is, too: set data.exif=turn if the depth maps "
            f"are upright, or data.exif=ignore if they are as the images are stored"
        )
    return np.array(image)


def proportion(size: Sequence[int]) -> float:
    """Return width over height."""
    return size[1] / size[0]


def is_near(a: float, b: float) -> bool:
    """Whether two proportions belong to one view: those of a camera's images and depth maps differ by less than 1 %."""
    return abs(a / b - 1.0) <= SAME_SHAPE


def collate(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Stack pairs of one size into a batch: ``(B, 3, H, W)`` and ``(B, 1, H, W)``.

    Raises:
        InputError: The pairs differ in size.
    """
    sizes = {tuple(depth.shape[1:]) for _, depth in samples}
    if len(sizes) > 1:
        raise InputError(f"training images of different sizes, {sorted(sizes)} [px]: set data.size or data.crop")
    images, depths = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(depths)
