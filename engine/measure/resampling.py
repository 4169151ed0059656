"""Bootstrap over images: intervals of the accuracy, and of the difference of two models on the same images."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit

from engine.report.records import Quantity, Report, Resamples

RESAMPLES = 1000
"""Number of resamples."""

LEVEL = 0.95
"""Confidence level of the intervals."""


Interval = tuple[float, float]
"""Lower and upper end."""


@lru_cache(maxsize=2)
def image_weights(images: int) -> np.ndarray:
    """Return how often each image is drawn in each resample, the same for every model: ``(images, RESAMPLES)``."""
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    return np.ascontiguousarray(drawn.T, dtype=np.float32)


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Return the mean over the images in each resample: ``(images, K) -> (K, RESAMPLES)``."""
    return values.T @ image_weights(len(values)).astype(np.float64) / len(values)


def interval(value: float, resampled: np.ndarray, *, images: int) -> Interval:
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
    factor = student_quantile(images - 1) / ndtri(0.5 * (1 + LEVEL)) * np.sqrt(images / (images - 1))
    return value + float(factor * low), value + float(factor * high)


def difference_interval(reference: Resamples, other: Resamples, label: str) -> Interval | None:
    """Return the interval of a figure's difference, other minus reference, on the same resamples of the same images.

    None if the images differ, or one lacks the figure. If one of them stands for several seeds, the interval holds
    their variation, too, by Welch's approximation; a model with one seed then adds none.

    B. L. Welch: The generalization of "Student's" problem when several different population variances are involved,
    Biometrika 34, 1947
    """
    if reference.digest != other.digest or not (label in reference.figures and label in other.figures):
        return None
    value = other.values[label] - reference.values[label]
    of_images = interval(value, other.figures[label] - reference.figures[label], images=reference.images)
    return widened(value, of_images, seed_half_width([each.seeds.get(label, ()) for each in (reference, other)]))


def widened(value: float, ends: Interval, half: float) -> Interval:
    """Return an interval about the value that also holds an independent variation of this half width."""
    return value - float(np.hypot(value - ends[0], half)), value + float(np.hypot(ends[1] - value, half))


def seed_half_width(seeds: Sequence[Sequence[float]]) -> float:
    """Return half of the interval that the seeds of some models give the sum, or difference, of their means."""
    groups = [np.asarray(values) for values in seeds if len(values) > 1]
    parts = [values.var(ddof=1) / len(values) for values in groups]
    if not sum(parts):
        return 0.0
    weights = sum(part**2 / (len(values) - 1) for part, values in zip(parts, groups, strict=True))
    return student_quantile(sum(parts) ** 2 / weights) * float(np.sqrt(sum(parts)))


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
        ends = interval(quantity.value, figures[quantity.name], images=number)
        return replace(quantity, interval=ends if np.isfinite(ends).all() else None)

    digest = hashlib.sha256("\n".join(images).encode()).hexdigest()[:16]
    kept = {q.label: (q.value, figures[q.name]) for q in report.quantities if q.name in figures and q.value is not None}
    values = {label: value for label, (value, _) in kept.items()}
    resampled = {label: each for label, (_, each) in kept.items()}
    return replace(
        report, quantities=tuple(map(known, report.quantities)), resamples=Resamples(digest, number, values, resampled)
    )
