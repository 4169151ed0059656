r"""Quality of depth maps: the field's figures, averaged over images or computed over all pixels.

:data:`FIGURES` has every figure's formula, with :math:`p` the prediction and :math:`g` the truth [m] of the pixels that
count, :math:`e = p - g`, :math:`l = \ln p - \ln g` and :math:`r = \max(p / g, g / p)`. All follow from the means of
:data:`MOMENTS`, so one pass over the pixels serves both ways of averaging.

D. Eigen, C. Puhrsch, R. Fergus: Depth Map Prediction from a Single Image using a Multi-Scale Deep Network, NeurIPS
2014, arXiv:1406.2283 (abs_rel to delta3, SILog); J. Uhrig et al.: Sparsity Invariant CNNs, 3DV 2017, arXiv:1708.06500
(KITTI's iRMSE, iMAE and, in its development kit, sqErrorRel)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from engine.report.records import Direction

THRESHOLD = 1.25
"""Threshold of delta1; its square and cube are the thresholds of delta2 and delta3."""

MOMENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "|e| / g": lambda p, g: (p - g).abs() / g,
    "e² / g": lambda p, g: (p - g).square() / g,
    "e² / g²": lambda p, g: ((p - g) / g).square(),
    "|e|": lambda p, g: (p - g).abs(),
    "e²": lambda p, g: (p - g).square(),
    "l": lambda p, g: p.log() - g.log(),
    "l²": lambda p, g: (p.log() - g.log()).square(),
    "|log10|": lambda p, g: (p.log10() - g.log10()).abs(),
    "|1/p - 1/g|": lambda p, g: (1 / p - 1 / g).abs(),
    "(1/p - 1/g)²": lambda p, g: (1 / p - 1 / g).square(),
    "r < 1.25": lambda p, g: (torch.maximum(p / g, g / p) < THRESHOLD).to(p.dtype),
    "r < 1.25²": lambda p, g: (torch.maximum(p / g, g / p) < THRESHOLD**2).to(p.dtype),
    "r < 1.25³": lambda p, g: (torch.maximum(p / g, g / p) < THRESHOLD**3).to(p.dtype),
}
"""Name -> quantity that is averaged over the pixels, from predictions and truths ``(N,)`` [m]."""

Means = Mapping[str, float]


@dataclass(frozen=True)
class Figure:
    """One quality figure of a depth map.

    Attributes:
        formula: Computes the figure from the means of :data:`MOMENTS`.
        unit: Unit of the figure; empty for a ratio.
        better: Direction that is better.
    """

    formula: Callable[[Means], float]
    unit: str = ""
    better: Direction = "lower"


FIGURES: dict[str, Figure] = {
    "abs_rel": Figure(lambda m: m["|e| / g"]),
    "sq_rel": Figure(lambda m: m["e² / g"], "m"),
    "rmse": Figure(lambda m: sqrt(m["e²"]), "m"),
    "rmse_log": Figure(lambda m: sqrt(m["l²"])),
    "log10": Figure(lambda m: m["|log10|"]),
    "silog": Figure(lambda m: 100 * sqrt(max(m["l²"] - m["l"] ** 2, 0.0))),
    "mae": Figure(lambda m: m["|e|"], "m"),
    "iRMSE": Figure(lambda m: 1000 * sqrt(m["(1/p - 1/g)²"]), "1/km"),
    "iMAE": Figure(lambda m: 1000 * m["|1/p - 1/g|"], "1/km"),
    "sqErrorRel": Figure(lambda m: 100 * m["e² / g²"], "%"),
    "delta1": Figure(lambda m: m["r < 1.25"], better="higher"),
    "delta2": Figure(lambda m: m["r < 1.25²"], better="higher"),
    "delta3": Figure(lambda m: m["r < 1.25³"], better="higher"),
}
"""Name -> figure. SILog has the factor 100 of KITTI's benchmark; sqErrorRel is the benchmark's, too, and not sq_rel."""


@dataclass(frozen=True)
class PixelSums:
    """Sums over an image's pixels that count, from which its figures and the pooled figures follow.

    Attributes:
        pixels: Number of pixels that count.
        sums: Sums of :data:`MOMENTS`, in their order.
    """

    pixels: int
    sums: tuple[float, ...]


def pixel_sums(prediction: Tensor, truth: Tensor) -> PixelSums:
    """Compute the sums of an image.

    Args:
        prediction: ``(N,)`` [m], of the pixels that count; above 0.
        truth: ``(N,)`` [m], likewise.
    """
    p, g = prediction.double(), truth.double()
    return PixelSums(len(g), tuple(float(moment(p, g).sum()) for moment in MOMENTS.values()))


def figures(sums: PixelSums) -> dict[str, float]:
    """Return all figures of :data:`FIGURES`; at least one pixel must count."""
    means = dict(zip(MOMENTS, (value / sums.pixels for value in sums.sums), strict=True))
    return {name: figure.formula(means) for name, figure in FIGURES.items()}


def average_images(images: Sequence[PixelSums]) -> dict[str, float]:
    """Average every figure over the images: each image counts once, as in Eigen's and BTS's evaluations.

    Args:
        images: Sums of images that have pixels that count.
    """
    each = [figures(sums) for sums in images]
    return {name: sum(found[name] for found in each) / len(each) for name in FIGURES}


def pool_pixels(images: Sequence[PixelSums]) -> dict[str, float]:
    """Return every figure over the pixels of all images together: each pixel counts once."""
    columns = zip(*(image.sums for image in images), strict=True)
    return figures(PixelSums(sum(image.pixels for image in images), tuple(map(sum, columns))))
