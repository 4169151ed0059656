"""Bootstrap over images: intervals of the accuracy, and of the difference of two models on the same images."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from engine.report.records import Quantity, Report, Resamples

RESAMPLES = 1000
"""Number of resamples."""

LEVEL = 0.95
"""Confidence level of the intervals."""

NORMAL_QUANTILE = 1.959964
"""The normal distribution's quantile of the level."""


@lru_cache(maxsize=2)
def image_weights(images: int) -> np.ndarray:
    """Return how often each image is drawn in each resample, the same for every model: ``(images, RESAMPLES)``."""
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    return np.ascontiguousarray(drawn.T, dtype=np.float32)


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Return the mean over the images in each resample: ``(images, K) -> (K, RESAMPLES)``."""
    return values.T @ image_weights(len(values)).astype(np.float64) / len(values)


def interval(value: float, resampled: np.ndarray, *, images: int) -> tuple[float, float]:
    """Return the confidence interval of a figure, or of a difference.

    It has the percentiles of the resamples' deviations from their mean, about the value itself: figures like AP rise a
    little by repeated images. A factor accounts for few images, as Student's t and the sample variance do.

    B. Efron, R. Tibshirani: An Introduction to the Bootstrap, 1993

    Args:
        value: The figure on all images.
        resampled: The figure in each resample, ``(RESAMPLES,)``; NaN where it has no value.
        images: Number of images.
    """
    if images < 2 or np.isnan(resampled).all():
        return float("-inf"), float("inf")
    deviations = resampled - np.nanmean(resampled)
    low, high = np.nanpercentile(deviations, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    factor = student_quantile(images - 1) / NORMAL_QUANTILE * np.sqrt(images / (images - 1))
    return value + float(factor * low), value + float(factor * high)


def student_quantile(freedom: float) -> float:
    """Return Student's t quantile of the level."""
    return float(stdtrit(freedom, 0.5 * (1 + LEVEL)))


def with_resamples(report: Report, figures: Mapping[str, np.ndarray], images: Sequence[str]) -> Report:
    """Give a report's figures of accuracy their intervals.

    Args:
        report: A report.
        figures: Name of a quantity -> its value in each resample, in the quantity's unit.
        images: Names of the images, in the order in which they were resampled.
    """
    number = len(images)

    def known(quantity: Quantity) -> Quantity:
        if quantity.name not in figures or quantity.value is None:
            return quantity
        return replace(quantity, interval=interval(quantity.value, figures[quantity.name], images=number))

    digest = hashlib.sha256("\n".join(images).encode()).hexdigest()[:16]
    kept = {q.label: figures[q.name] for q in report.quantities if q.name in figures and q.value is not None}
    return replace(report, quantities=tuple(map(known, report.quantities)), resamples=Resamples(digest, number, kept))
