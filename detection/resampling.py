"""The metrics of a detector in resamples of the images: the matching stays, and what it adds up to is resampled."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from detection.coco_evaluation import AREAS, COCOS_DETECTIONS, IOU_50, IOU_75, MAX_DETECTIONS, match_detections
from detection.counts import Counts
from detection.data.records import Annotations
from detection.matches import Matches, collect_matches
from detection.metrics import DetectionMetrics
from engine.measure.resampling import image_weights

RECALL_PARTS = 100
"""Recall is divided into this many parts for AP."""

CHUNK = 250
"""Number of resamples computed at once."""

ROUNDING = 1e-4
"""Added to recalls in hundredths before they are rounded down."""


def resample_detections(
    annotations: Annotations, results: Sequence[Mapping[str, Any]], metrics: DetectionMetrics
) -> dict[str, np.ndarray]:
    """Return COCO's 12 numbers, and precision, recall and F1 at the metrics' threshold, in every resample.

    Args:
        annotations: The ground truth.
        results: Detections in COCO's results format.
        metrics: The metrics on all images.

    Returns:
        Name -> value in each resample, NaN where it is undefined.
    """
    evaluation = match_detections(annotations, results, most=metrics.detections)
    areas = collect_matches(evaluation, annotations)
    weights = image_weights(len(annotations.images))
    chunks = [np.ascontiguousarray(weights[:, i : i + CHUNK]) for i in range(0, weights.shape[1], CHUNK)]
    found = [resampled_numbers(areas, metrics, chunk) for chunk in chunks]
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def resampled_numbers(
    areas: Sequence[Sequence[Matches]], metrics: DetectionMetrics, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute all figures for some weights of the images: ``(N, B) -> (B,)`` each."""
    everything = areas[0]
    precisions = of_classes(average_precisions, everything, weights, most=metrics.detections)
    found = {
        "AP": mean_of_present(precisions),
        "AP50": mean_of_present(precisions[:, IOU_50]),
        "AP75": mean_of_present(precisions[:, IOU_75]),
    }
    for area, classes in list(zip(AREAS, areas, strict=True))[1:]:
        found[f"AP_{area}"] = mean_of_present(of_classes(average_precisions, classes, weights, most=metrics.detections))
        found[f"AR_{area}"] = mean_of_present(of_classes(recalls, classes, weights, most=metrics.detections))
    for most in (*MAX_DETECTIONS[:-1], metrics.detections):
        found[f"AR_{most}"] = mean_of_present(of_classes(recalls, everything, weights, most=most))
    if metrics.detections > COCOS_DETECTIONS:
        precisions = of_classes(average_precisions, everything, weights, most=COCOS_DETECTIONS)
        for name, at in (("AP", slice(None)), ("AP50", IOU_50), ("AP75", IOU_75)):
            found[f"{name} (COCO's, {COCOS_DETECTIONS} detections)"] = mean_of_present(precisions[:, at])
    return found | resampled_at_threshold(everything, metrics.threshold, weights)


def of_classes(
    figure: Callable[..., np.ndarray], classes: Sequence[Matches], weights: np.ndarray, *, most: int
) -> np.ndarray:
    """Compute a figure of every class at every IoU threshold, in threads: ``(C, T, B)``."""
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return np.stack(list(threads.map(lambda matches: figure(matches, weights, most=most), classes)))


def average_precisions(matches: Matches, weights: np.ndarray, *, most: int) -> np.ndarray:
    """Compute COCO's AP of a class with every image counted as often as its weight says: ``(N, B) -> (T, B)``."""
    allowed = matches.rank < most
    return np.stack(
        [
            average_precision(matches.image[counted & allowed], true[counted & allowed], matches.objects, weights)
            for true, counted in zip(matches.true, matches.counted, strict=True)
        ]
    )


def average_precision(image: np.ndarray, true: np.ndarray, objects: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Compute the mean over 101 recalls of the greatest precision at that recall or more, NaN without objects.

    :math:`AP = \frac{1}{101} \sum_{k=0}^{100} \max_{r \ge k / 100} p(r)`. T.-Y. Lin et al.: Microsoft COCO, ECCV 2014,
    arXiv:1405.0312. Only the points of true detections count: a false one lowers the precision and leaves the recall.

    Args:
        image: Image of each detection, in the order of descending confidence, ``(D,)``.
        true: Whether it matched, ``(D,)``.
        objects: Objects in each image, ``(N,)``.
        weights: ``(N, B)``.
    """
    total, hits = objects @ weights, np.flatnonzero(true)
    if not len(hits):
        return np.where(total > 0, 0.0, np.nan)
    counts = weights[image[: hits[-1] + 1]]
    true_so_far = counts[hits].cumsum(0)
    found_so_far = np.add.reduceat(counts, np.concatenate([[0], hits[:-1] + 1]), axis=0).cumsum(0)
    precision = true_so_far / np.maximum(found_so_far, 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.floor(RECALL_PARTS * true_so_far / np.maximum(total, 1) + ROUNDING) + 1  # number of recalls up to here
    area = (envelope * np.diff(reached, axis=0, prepend=0)).sum(0) / (RECALL_PARTS + 1)
    return np.where(total > 0, area, np.nan)


def recalls(matches: Matches, weights: np.ndarray, *, most: int) -> np.ndarray:
    """Compute the recall of a class, with so many detections of each image: ``(N, B) -> (T, B)``."""
    allowed, images = matches.rank < most, len(matches.objects)
    hits = np.stack([np.bincount(matches.image[true & allowed], minlength=images) for true in matches.true])
    return ratios(hits.astype(np.float32) @ weights, matches.objects @ weights)


def resampled_at_threshold(
    classes: Sequence[Matches], threshold: float | None, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute precision, recall and F1 at IoU 0.5 and a confidence, ``(B,)`` each: macro and micro.

    That the confidence was chosen on the same images is not part of their variation.
    """
    images = len(weights)
    kept = [m.score >= (threshold or 0.0) for m in classes]
    judged = [(m.true[IOU_50], m.counted[IOU_50] & ~m.true[IOU_50]) for m in classes]
    true, false = (
        np.stack(
            [np.bincount(m.image[k & j[i]], minlength=images) for m, k, j in zip(classes, kept, judged, strict=True)]
        )
        for i in range(2)
    )
    hits, misses = (counts.astype(np.float32) @ weights for counts in (true, false))
    counts = Counts(hits, misses, np.stack([m.objects for m in classes]) @ weights)
    found = {}
    for name in ("precision", "recall", "F1"):
        of_classes = getattr(counts, name.lower())
        found[f"{name} (macro)"] = mean_of_present(np.where(counts.objects > 0, of_classes, np.nan))
        found[f"{name} (micro)"] = getattr(counts.total(), name.lower())[0]
    return found


def ratios(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, NaN by 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def mean_of_present(values: np.ndarray) -> np.ndarray:
    """Average over all axes but the last, without classes that have no object at all: ``(..., B) -> (B,)``.

    A resample in which a class has no object gives NaN, and is none of the figure: it would be a mean over others.
    """
    flat = values.reshape(-1, values.shape[-1])
    present = flat[~np.isnan(flat).all(-1)]
    return present.mean(0) if len(present) else np.full(values.shape[-1], np.nan)
