"""Counts of true positives, false positives and objects of every class, at every confidence threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from detection.coco_evaluation import IOU_50

THRESHOLDS = np.arange(101) / 100


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and objects: (C, T) arrays for C classes and T thresholds; objects (C, 1)."""

    true: np.ndarray
    false: np.ndarray
    objects: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """True positives over detections: ``(C, T)``."""
        return ratio(self.true, self.true + self.false)

    @property
    def recall(self) -> np.ndarray:
        """True positives over objects: ``(C, T)``."""
        return ratio(self.true, np.broadcast_to(self.objects, self.true.shape))

    @property
    def f1(self) -> np.ndarray:
        """F1 = 2PR / (P + R) = 2 TP / (TP + FP + TP + FN)."""
        return ratio(2 * self.true, self.true + self.false + self.objects)

    def select(self, classes: np.ndarray) -> "Counts":
        """Return the counts of some classes."""
        return Counts(self.true[classes], self.false[classes], self.objects[classes])

    def total(self) -> "Counts":
        """Add up the counts of all classes, as one class."""
        return Counts(*(counts.sum(0, keepdims=True) for counts in (self.true, self.false, self.objects)))


def count_matches(evaluation: COCOeval, category_ids: Sequence[int]) -> "Counts":
    """Count every class's matches at IoU 0.5 at each threshold; ``evalImgs`` is ordered by class, area, image."""
    parameters = evaluation.params
    stride = len(parameters.areaRng) * len(parameters.imgIds)
    starts = [parameters.catIds.index(category) * stride for category in category_ids]
    counts = [count_class(evaluation.evalImgs[start : start + len(parameters.imgIds)]) for start in starts]
    true, false, objects = (np.array(part) for part in zip(*counts, strict=True))
    return Counts(true, false, objects[:, None])


def count_class(images: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, int]:
    """Count true and false positives, ``(T,)`` each, and objects; detections of ignored regions are neither."""
    entries = [entry for entry in images if entry is not None]
    if not entries:
        return np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS)), 0
    scores = np.concatenate([entry["dtScores"] for entry in entries])
    matched = np.concatenate([entry["dtMatches"][IOU_50] for entry in entries]) > 0
    counted = ~np.concatenate([entry["dtIgnore"][IOU_50] for entry in entries]).astype(bool)
    objects = sum(int(np.count_nonzero(entry["gtIgnore"] == 0)) for entry in entries)
    return count_at_least(scores[matched & counted]), count_at_least(scores[~matched & counted]), objects


def count_at_least(scores: np.ndarray) -> np.ndarray:
    """Count the scores at or above each threshold: (N,) -> (T,)."""
    return (len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="left")).astype(float)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with 0 / 0 = 0."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
