"""Pairs as a torch dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from odebackbones.engine.media import decode
from odebackbones.errors import InputError

from .depth_files import read_depth
from .records import DepthPair, DepthPairs
from .transforms import Sample, Transform


class DepthDataset(Dataset[Sample]):
    """Serves images ``(3, H, W)`` in [0, 1] and depth maps ``(1, H, W)`` [m], 0 where nothing was measured.

    Args:
        pairs: What to serve.
        transforms: Of an image in uint8 and its depth, one after the other.
        cut: What is done to both as they are read, before anything else.
        in_memory: Keep the decoded pairs.
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
        """A pair as it is cut.

        Raises:
            InputError: It can't be read.
        """
        sample = decode_pair(self.pairs.pairs[index], self.pairs)
        return sample if self.cut is None else self.cut(sample)

    def depth(self, index: int) -> Tensor:
        """The depth map ``(H, W)`` [m] alone, uncut."""
        return measured_depth(self.pairs.pairs[index], self.pairs)


def measured_depth(pair: DepthPair, pairs: DepthPairs) -> Tensor:
    """A depth map ``(H, W)`` [m], 0 where nothing was measured."""
    depth = torch.from_numpy(read_depth(pair.depth, unit=pairs.unit))
    return depth if math.isinf(pairs.limit) else torch.where(depth > pairs.limit, 0.0, depth)


def decode_pair(pair: DepthPair, pairs: DepthPairs) -> Sample:
    """An image ``(3, H, W)`` uint8, turned upright or not as its depth map is, and its depth ``(H, W)`` [m].

    Raises:
        InputError: One can't be read, or they differ in size.
    """
    depth, exif = measured_depth(pair, pairs), pairs.exif
    turn = exif != "ignore"
    image = torch.from_numpy(np.array(decode(pair.image, turn=turn))).permute(2, 0, 1)
    if exif == "auto" and image.shape[1:] != depth.shape and image.shape[:0:-1] == depth.shape:
        image = torch.from_numpy(np.array(decode(pair.image, turn=False))).permute(2, 0, 1)
    if image.shape[1:] != depth.shape:
        sizes = " and ".join(f"{height}x{width} px" for height, width in (image.shape[1:], depth.shape))
        raise InputError(f"{pair.image} and {pair.depth} are of {sizes}; expected pairs of one size")
    return image, depth


def collate(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """A batch of pairs of one size: ``(B, 3, H, W)`` and ``(B, 1, H, W)``.

    Raises:
        InputError: They differ in size.
    """
    sizes = {tuple(depth.shape[1:]) for _, depth in samples}
    if len(sizes) > 1:
        raise InputError(f"training images of different sizes, {sorted(sizes)} [px]: set data.size or data.crop")
    images, depths = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(depths)
