"""Bootstrap over images: intervals of the accuracy, and of the difference of two models on the same images."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit

from engine.report.records import Interval, Quantity, Report, Resamples

RESAMPLES = 1000
"""Number of resamples."""

LEVEL = 0.95
"""Confidence level of the intervals."""

LEAST_IMAGES = 7
"""Images from which a figure has an interval: of fewer, a resample often has but one or two."""

FEW = 0.0025
"""Share of resamples without any difference above which too few images differ; six of them have it at exp(-6)."""


@lru_cache(maxsize=2)
def image_weights(images: int) -> np.ndarray:
    """Return how often each image is drawn in each resample, the same for every model: ``(images, RESAMPLES)``."""
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    weights = np.ascontiguousarray(drawn.T, dtype=np.float32)
    weights.flags.writeable = False  # all models share them
    return weights


def resampled_means(values: np.ndarray) -> np.ndarray:
    """Return the mean over the images in each resample: ``(images, K) -> (K, RESAMPLES)``."""
    return values.T @ image_weights(len(values)).astype(np.float64) / len(values)


def interval(value: float, resampled: np.ndarray, *, images: int) -> Interval | None:
    r"""Return the confidence interval of a figure, or of a difference.

    With the figure :math:`\hat\theta`, its resamples :math:`\theta^*`, their mean and their percentiles, the ends are
    :math:`2 \hat\theta - \overline{\theta^*} + c\,(\theta^*_{2.5\,\%} - \overline{\theta^*})` and likewise with 97.5 %:
    AP of few images is too high, and its resamples are higher by about half as much again, which is taken off. The
    factor :math:`c = t_{n-1} / z \cdot \sqrt{n / (n - 1)}` accounts for few images.

    B. Efron, R. Tibshirani: An Introduction to the Bootstrap, 1993, https://doi.org/10.1201/9780429246593

    Args:
        value: The figure on all images.
        resampled: The figure in each resample, ``(RESAMPLES,)``; NaN where it has no value.
        images: Number of images, n.

    Returns:
        The ends; None for fewer than :data:`LEAST_IMAGES`, and where a resample lacks the figure, which then rests on
        less than about as many.
    """
    if images < LEAST_IMAGES or np.isnan(resampled).any():
        return None
    mean = resampled.mean()
    low, high = np.percentile(resampled - mean, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    factor = student_quantile(images - 1) / ndtri(0.5 * (1 + LEVEL)) * np.sqrt(images / (images - 1))
    return float(2 * value - mean + factor * low), float(2 * value - mean + factor * high)


def difference_interval(reference: Resamples, other: Resamples, label: str) -> Interval | None:
    """Return the interval of a figure's difference, other minus reference, on the same resamples of the same images.

    None if the images differ, or one lacks the figure. It holds zero if only about five images or fewer make the
    difference: an exact test shows none, either. If one of them stands for several seeds, it holds their variation,
    too (:func:`seed_half_width`).
    """
    if reference.digest != other.digest or not (label in reference.figures and label in other.figures):
        return None
    value = other.values[label] - reference.values[label]
    differences = other.figures[label] - reference.figures[label]
    unbiased = value + differences - differences.mean()  # the biases of two figures cancel
    of_images = interval(value, unbiased, images=reference.images)
    if of_images is None:
        return None
    if np.isclose(differences, 0.0, rtol=0.0, atol=1e-9).mean() > FEW:
        of_images = min(of_images[0], 0.0), max(of_images[1], 0.0)
    return widened(of_images, seed_half_width([each.seeds.get(label, ()) for each in (reference, other)]))


def widened(ends: Interval, half: float) -> Interval:
    """Return an interval that also holds an independent variation of this half width."""
    middle = (ends[0] + ends[1]) / 2
    own = float(np.hypot(ends[1] - middle, half))
    return middle - own, middle + own


def seed_half_width(seeds: Sequence[Sequence[float]]) -> float:
    r"""Return half of the interval that the seeds of some models give the sum, or difference, of their means.

    With the variance :math:`s_i^2` of :math:`n_i` seeds it is :math:`t_\nu \sqrt{\sum_i s_i^2 / n_i}`, where
    :math:`\nu = (\sum_i s_i^2 / n_i)^2 / \sum_i (s_i^2 / n_i)^2 / (n_i - 1)`. A model with one seed is taken to vary as
    the others do on average, with the degrees of freedom of the one of them that has the fewest; if all have one seed,
    nothing is known of their variation, and it counts as 0.

    B. L. Welch: The generalization of "Student's" problem when several different population variances are involved,
    Biometrika 34, 1947, https://doi.org/10.1093/biomet/34.1-2.28
    """
    several = [np.asarray(values) for values in seeds if len(values) > 1]
    if not any(values.var() for values in several):
        return 0.0
    average = np.mean([values.var(ddof=1) for values in several])
    fewest = min(map(len, several)) - 1
    known = [(values.var(ddof=1) / len(values), len(values) - 1) for values in several]
    parts = [*known, *((average, fewest) for values in seeds if len(values) < 2)]
    total = sum(part for part, _ in parts)
    weights = sum(part**2 / freedom for part, freedom in parts)
    return student_quantile(total**2 / weights) * float(np.sqrt(total))


def student_quantile(freedom: float) -> float:
    """Return Student's t quantile of the level."""
    return float(stdtrit(freedom, 0.5 * (1 + LEVEL)))


def with_resamples(report: Report, figures: Mapping[str, np.ndarray], images: Sequence[str]) -> Report:
    """Give a report's figures of accuracy their intervals.

    Args:
        report: A report.
        figures: Name of a quantity -> its value in each resample, in the quantity's unit.
        images: Names of the images, in the order in which they were resampled, with whatever else tells images apart.
    """
    number = len(images)

    def known(quantity: Quantity) -> Quantity:
        if quantity.name not in figures or quantity.value is None:
            return quantity
        found = figures[quantity.name]
        ends = interval(quantity.value, found, images=number) if np.ptp(found) else None  # all alike tell nothing
        return replace(quantity, interval=within(ends, quantity))

    digest = hashlib.sha256("\n".join(images).encode() + image_weights(number).tobytes()).hexdigest()[:16]
    kept = {q.label: (q.value, figures[q.name]) for q in report.quantities if q.name in figures and q.value is not None}
    values = {label: value for label, (value, _) in kept.items()}
    resampled = {label: each for label, (_, each) in kept.items()}
    quantities = tuple(map(known, report.quantities))
    untold = [q.name for q in quantities if q.name in figures and q.value is not None and q.interval is None]
    note = f"No interval, as too few images have what it is measured on, or all agree: {', '.join(untold)}."
    return replace(
        report,
        quantities=quantities,
        notes=(*report.notes, *([note] if untold else [])),
        resamples=Resamples(digest, number, values, resampled),
    )


def within(ends: Interval | None, quantity: Quantity) -> Interval | None:
    """Cut an interval where the quantity ends: errors at 0, and what is better higher, which are shares, also at 1."""
    if ends is None or quantity.better == "neither":
        return ends
    most = {"lower": np.inf, "higher": 100.0 if quantity.unit == "%" else 1.0}[quantity.better]
    return max(ends[0], 0.0), min(ends[1], most)
