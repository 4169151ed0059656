"""The field's protocols by name: which pixels count, and how a prediction is prepared for the comparison.

On KITTI, the protocol alone can change the same network's RMSE from 2.80 to 2.50 m, so every report names it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depth.data.transforms import Sample
from odebackbones.errors import InputError

Region = tuple[slice, slice]
"""Rows and columns of an image."""

Crop = Callable[[int, int], Region]
"""Function from the height and width of an image to a part of it."""

KB_SIZE = (352, 1216)
"""Height and width of the KITTI benchmark's crop [px]."""


@dataclass(frozen=True)
class Protocol:
    """The part of a data set's images that is evaluated, and the range of depths.

    Attributes:
        description: Description for the report.
        min_depth: Truth at or below this depth doesn't count, and predictions are raised to it [m].
        max_depth: Truth at or above it doesn't count, and predictions are lowered to it [m]; None takes the model's.
        frame: Part of the image that the model sees and from which the truth is taken; None for the whole image.
        region: Part that counts; None for all of it.
        region_of_whole: Whether the region refers to the whole image instead of the frame.
    """

    description: str
    min_depth: float = 1e-3
    max_depth: float | None = None
    frame: Crop | None = None
    region: Crop | None = None
    region_of_whole: bool = False


def kb_crop(height: int, width: int) -> Region:
    """Return the KITTI benchmark's crop of 352x1216 px, at the bottom and horizontally centered.

    Raises:
        InputError: The image is smaller than the crop.
    """
    top, left = height - KB_SIZE[0], (width - KB_SIZE[1]) // 2
    if top < 0 or left < 0:
        raise InputError(f"an image of {height}x{width} px has no KB crop of 352x1216; take another eval.protocol")
    return slice(top, top + KB_SIZE[0]), slice(left, left + KB_SIZE[1])


def shares(top: float, bottom: float, left: float, right: float) -> Crop:
    """Build a crop from shares of height and width, truncated to whole pixels as in Eigen's and Garg's code."""

    def region(height: int, width: int) -> Region:
        return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))

    return region


garg_crop = shares(0.40810811, 0.99189189, 0.03594771, 0.96405229)
"""R. Garg et al.: Unsupervised CNN for Single View Depth Estimation, ECCV 2016, arXiv:1603.04992"""

eigen_crop = shares(0.3324324, 0.91351351, 0.0359477, 0.96405229)
"""D. Eigen et al., NeurIPS 2014, arXiv:1406.2283"""


def nyu_crop(height: int, width: int) -> Region:
    """Return rows 45 to 470 and columns 41 to 600 of NYU's 480x640, where depth was measured (Eigen et al. 2014).

    Raises:
        InputError: The images have another size.
    """
    if (height, width) != (480, 640):
        raise InputError(f"protocol nyu is for 480x640 px, and an image has {height}x{width}; take eval.protocol raw")
    return slice(45, 471), slice(41, 601)


PROTOCOLS: dict[str, Protocol] = {
    "raw": Protocol("all pixels with a measured depth"),
    "kitti-eigen": Protocol("Eigen's crop of the whole frame, to 80 m", max_depth=80.0, region=eigen_crop),
    "kitti-eigen-garg": Protocol("Garg's crop of the whole frame, to 80 m", max_depth=80.0, region=garg_crop),
    "kitti-eigen-kb-garg": Protocol(
        "Garg's crop of the KITTI benchmark's crop (352x1216 px), to 80 m",
        max_depth=80.0,
        frame=kb_crop,
        region=garg_crop,
    ),
    "kitti-eigen-bts": Protocol(
        "Garg's crop of the whole frame, of which the model sees the KITTI benchmark's crop (352x1216 px), to 80 m",
        max_depth=80.0,
        frame=kb_crop,
        region=garg_crop,
        region_of_whole=True,
    ),
    "nyu": Protocol("rows 45-470, columns 41-600, to 10 m", max_depth=10.0, region=nyu_crop),
}
"""Name -> protocol; those for KITTI follow Garg et al. 2016; ``kb-garg`` is AdaBins' (Bhat et al. 2021)."""


def crop_to_frame(values: Tensor, protocol: str) -> Tensor:
    """Crop an image or a depth map ``(..., H, W)`` to the part that a model sees."""
    frame = PROTOCOLS[protocol].frame
    return values if frame is None else values[(..., *frame(*values.shape[-2:]))]


def evaluated_truth(truth: Tensor, protocol: str) -> Tensor:
    """Crop the true depth to the frame, and set it to 0 outside the region that counts: ``(H, W) -> (h, w)``.

    Args:
        truth: ``(H, W)`` [m], for the whole image, 0 where nothing was measured.
        protocol: A name of :data:`PROTOCOLS`.
    """
    found = PROTOCOLS[protocol]
    if found.region_of_whole:
        return crop_to_frame(within(truth, found.region), protocol)
    return within(crop_to_frame(truth, protocol), found.region)


def within(truth: Tensor, region: Crop | None) -> Tensor:
    """Set a depth map ``(H, W)`` to 0 outside the region."""
    if region is None:
        return truth
    part = region(*truth.shape)
    inside = torch.zeros_like(truth)
    inside[part] = truth[part]
    return inside


def training_pair(sample: Sample, *, protocol: str) -> Sample:
    """Crop a pair to the part that a model sees."""
    return crop_to_frame(sample[0], protocol), crop_to_frame(sample[1], protocol)


def evaluation_pair(sample: Sample, *, protocol: str) -> Sample:
    """Crop a pair to the part that a model sees, with only the depth that counts."""
    return crop_to_frame(sample[0], protocol), evaluated_truth(sample[1], protocol)


def prepare(prediction: Tensor, truth: Tensor, counted: Tensor, *, bounds: tuple[float, float], median: bool) -> Tensor:
    """Prepare a prediction for the comparison: in the truth's size, scaled if ``median``, within the bounds.

    Args:
        prediction: ``(h, w)`` [m]; resized bilinearly, unlike the truth, which is never resized.
        truth: ``(H, W)`` [m].
        counted: Pixels that count, ``(H, W)`` bool.
        bounds: The protocol's least and greatest depth [m].
        median: Scale it to the truth's median (Zhou et al., CVPR 2017, for methods without a metric scale).

    Returns:
        ``(H, W)`` [m].
    """
    if prediction.shape != truth.shape:
        prediction = F.interpolate(prediction[None, None], size=truth.shape, mode="bilinear")[0, 0]
    if median and counted.any():
        prediction = prediction * float(np.median(truth[counted]) / np.median(prediction[counted]))
    return prediction.clamp(*bounds)
