"""Counts of true positives, false positives and objects of every class, at every confidence threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.matches import Matches

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


def count_matches(classes: Sequence[Matches]) -> Counts:
    """Count every class's matches at the first IoU threshold, at each confidence threshold.

    Detections of what is ignored are neither true nor false.
    """
    true = np.array([count_at_least(m.score[m.true[0]]) for m in classes])
    false = np.array([count_at_least(m.score[m.counted[0] & ~m.true[0]]) for m in classes])
    return Counts(true, false, np.array([[m.objects.sum()] for m in classes]))


def count_at_least(scores: np.ndarray) -> np.ndarray:
    """Count the scores at or above each threshold: (N,) -> (T,)."""
    return (len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="left")).astype(float)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with 0 / 0 = 0."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
