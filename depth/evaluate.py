"""Comparison of depth maps with the truth, for reports and the training log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from depth.metrics import PixelSums, average_images, pixel_sums, pool_pixels
from depth.protocols import PROTOCOLS, prepare
from engine.config import DialConfig
from odebackbones.errors import InputError, unknown_name

DISTANCES = 10
"""Number of bins of the error over distance."""

MODEL = "model"
"""Name of the predictor that is evaluated, as opposed to the baselines."""


@dataclass(frozen=True)
class EvalConfig(DialConfig):
    """Settings of the comparison of predictions with the truth, and other solvers that the report tries.

    Args:
        protocol: ``raw``, ``kitti-eigen``, ``kitti-eigen-garg``, ``kitti-eigen-kb-garg``, ``kitti-eigen-bts`` or
            ``nyu``: which pixels count, and up to which depth. Where it crops images, training images are cropped, too.
        median_scaling: Scale every prediction to the truth's median.
        flip: Average the predictions for the image and for its mirror image.
        solvers: See :class:`~engine.config.DialConfig`, as for ``steps``, ``tolerances`` and ``calibration``.
    """

    protocol: str = "raw"
    median_scaling: bool = False
    flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol not in PROTOCOLS:
            raise unknown_name("eval.protocol", self.protocol, PROTOCOLS)


@dataclass(frozen=True)
class ImageResult:
    """An image's sums over the pixels that count, for every predictor.

    Attributes:
        index: Index of the image in its set.
        sums: Predictor -> sums.
        distances: For the model, sum of |e| / g and number of pixels in each bin of the true distance, ``(bins, 2)``.
    """

    index: int
    sums: Mapping[str, PixelSums]
    distances: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class DepthMetrics:
    """Figures of a set of images.

    Attributes:
        averaged: Predictor -> figure -> mean over the images.
        pooled: Predictor -> figure, over all pixels.
        distances: Upper ends of the bins [m].
        error_over_distance: Mean |e| / g of the model in each bin; NaN where there are no pixels.
        counted: Results of the images with pixels that count.
        skipped: Number of images without such pixels.
    """

    averaged: Mapping[str, Mapping[str, float]]
    pooled: Mapping[str, Mapping[str, float]]
    distances: tuple[float, ...]
    error_over_distance: tuple[float, ...]
    counted: tuple[ImageResult, ...]
    skipped: int


class Comparison:
    """A comparison of predictions with the truth by a protocol.

    Args:
        config: Protocol and its options.
        max_depth: The model's greatest depth [m], used if the protocol has none.
    """

    def __init__(self, config: EvalConfig, *, max_depth: float) -> None:
        self.protocol = PROTOCOLS[config.protocol]
        self.median_scaling = config.median_scaling
        self.max_depth = self.protocol.max_depth or max_depth

    @property
    def description(self) -> str:
        """The protocol in words, with everything that figures must share to be comparable."""
        scaling = "scaled to the truth's median" if self.median_scaling else "no median scaling"
        return f"{self.protocol.description}; depths {self.protocol.min_depth:g} to {self.max_depth:g} m; {scaling}"

    def counted(self, truth: Tensor) -> Tensor:
        """Return which pixels of ``truth: (H, W)`` [m] lie within the protocol's depths, as bool."""
        return (truth > self.protocol.min_depth) & (truth < self.max_depth)

    def prepare(self, prediction: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
        """Bring a prediction to the truth's size and into the bounds: ``(H, W)`` [m]."""
        bounds = self.protocol.min_depth, self.max_depth
        return prepare(prediction, truth, counted, bounds=bounds, median=self.median_scaling)

    def image(self, index: int, predictions: Mapping[str, Tensor], truth: Tensor) -> ImageResult:
        """Compute the sums of one image.

        Args:
            index: Index of the image in its set.
            predictions: Predictor -> ``(h, w)`` [m].
            truth: ``(H, W)`` [m], 0 outside the protocol's region and where nothing was measured.
        """
        counted = self.counted(truth)
        compared = {name: self.prepare(p, truth, counted)[counted] for name, p in predictions.items()}
        g = truth[counted]
        sums = {name: pixel_sums(p, g) for name, p in compared.items()}
        return ImageResult(index, sums, self.over_distance(compared[MODEL], g))

    def over_distance(self, p: Tensor, g: Tensor) -> tuple[tuple[float, float], ...]:
        """Return the sum of |e| / g and the number of pixels in each bin of the true distance."""
        bins = (g / self.max_depth * DISTANCES).long().clamp(max=DISTANCES - 1)
        errors = torch.bincount(bins, weights=((p - g).abs() / g).double(), minlength=DISTANCES)
        return tuple(zip(errors.tolist(), torch.bincount(bins, minlength=DISTANCES).tolist(), strict=True))

    def metrics(self, results: Iterable[ImageResult]) -> DepthMetrics:
        """Compute the figures of all images.

        Raises:
            InputError: No image has a pixel that counts.
        """
        found = {result.index: result for result in results}  # each image once, even if several processes have it
        counting = [found[i] for i in sorted(found) if found[i].sums[MODEL].pixels]
        if not counting:
            raise InputError(f"no pixel of {len(found)} images counts by the protocol: {self.description}")
        sums = {name: [result.sums[name] for result in counting] for name in counting[0].sums}
        totals = torch.tensor([result.distances for result in counting], dtype=torch.float64).sum(0)
        width = self.max_depth / DISTANCES
        return DepthMetrics(
            {name: average_images(each) for name, each in sums.items()},
            {name: pool_pixels(each) for name, each in sums.items()},
            tuple(width * (i + 1) for i in range(DISTANCES)),
            tuple((totals[:, 0] / totals[:, 1]).tolist()),
            tuple(counting),
            len(found) - len(counting),
        )
