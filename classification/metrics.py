"""Metrics of a classification."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOP_K = 5
"""The k of top-k accuracy."""


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class; precision is 0 if no image was assigned to the class, as in scikit-learn."""

    name: str
    images: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassificationMetrics:
    """Metrics of a classifier on a data set.

    Attributes:
        top1: Share of images whose class has the highest score.
        top5: Share of images whose class is among the five highest scores.
        per_class: Precision, recall and F1 of every class.
        confusion: Number of images of class i that were assigned to class j, ``(C, C)``.
    """

    top1: float
    top5: float
    per_class: tuple[ClassMetrics, ...]
    confusion: Tensor

    @property
    def precision(self) -> float:
        """Macro precision: the mean over the classes, each counting once."""
        return self.mean("precision")

    @property
    def recall(self) -> float:
        """Macro recall: the mean over the classes, each counting once."""
        return self.mean("recall")

    @property
    def f1(self) -> float:
        """Macro F1: the mean over the classes, each counting once."""
        return self.mean("f1")

    def mean(self, name: str) -> float:
        """Average a metric over the classes."""
        return sum(getattr(each, name) for each in self.per_class) / len(self.per_class)


def evaluate_scores(scores: Tensor, labels: Tensor, classes: Sequence[str]) -> ClassificationMetrics:
    r"""Compute the metrics of scores, such as logits.

    With TP the images of a class that were assigned to it, precision is TP over all images that were assigned to the
    class, recall is TP over all images of the class, and :math:`F_1 = 2 P R / (P + R)`.

    M. Sokolova, G. Lapalme: A systematic analysis of performance measures for classification tasks, Information
    Processing & Management 45, 2009

    Args:
        scores: ``(N, C)``.
        labels: ``(N,)`` in 0..C-1.
        classes: Names of the C classes.
    """
    number = len(classes)
    ranked = scores.topk(min(TOP_K, number), dim=1).indices == labels[:, None]
    pairs = labels * number + scores.argmax(dim=1)
    confusion = torch.bincount(pairs, minlength=number**2).reshape(number, number)
    hits, images, taken = confusion.diag(), confusion.sum(1), confusion.sum(0)
    precision, recall, f1 = (
        (numerator / denominator.clamp(min=1)).tolist()
        for numerator, denominator in ((hits, taken), (hits, images), (2 * hits, images + taken))
    )
    per_class = tuple(map(ClassMetrics, classes, images.tolist(), precision, recall, f1))
    return ClassificationMetrics(
        float(hits.sum() / len(labels)), float(ranked.any(1).float().mean()), per_class, confusion
    )
