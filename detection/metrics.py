"""Detection metrics: COCO's 12 numbers, and precision, recall and F1 from the same matching."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCOeval

from detection.coco_evaluation import (
    ALL_AREAS,
    COCOS_DETECTIONS,
    IOU_50,
    MOST,
    coco_numbers,
    match_detections,
    require_known_results,
)
from detection.counts import THRESHOLDS, Counts, count_matches
from detection.data.records import Annotations
from detection.matches import collect_matches


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class, ``None`` if it has no objects; precision, recall and F1 are at the common threshold."""

    name: str
    objects: int
    ap: float | None
    ap50: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision at IoU 0.5, averaged over the classes that have objects, at recall 0, 0.01 .. 1."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True)
class F1Curve:
    """Macro precision, recall and F1 of the detections at or above each confidence threshold."""

    thresholds: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]


@dataclass(frozen=True)
class DetectionMetrics:
    """All metrics of one evaluation; ``None`` where the data set has no object that would define a metric.

    Args:
        coco: COCO's 12 numbers by their names in ``COCO_NAMES``, over all detections that are kept.
        at_100: COCO's 12 numbers over at most 100 detections per image, which is COCO's rule.
        detections: Largest number of detections per image and class that were judged.
        per_class: One entry per class, in the data set's order.
        threshold: The confidence at which macro F1 is highest; the lowest one if there are several.
        precision: Macro precision at the threshold: the mean over the classes that have objects.
        recall: Macro recall at the threshold.
        f1: Macro F1 at the threshold: the mean of the classes' F1, not the F1 of the means.
        micro_precision: Precision at the threshold from the summed counts of all classes, even those without objects.
        micro_recall: Recall from the same counts.
        micro_f1: F1 from the same counts.
        pr_curve: Precision over recall; empty if there are no objects.
        f1_curve: Precision, recall and F1 over the threshold; empty if there are no objects.
    """

    coco: dict[str, float | None]
    at_100: dict[str, float | None]
    detections: int
    per_class: tuple[ClassMetrics, ...]
    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    micro_precision: float | None
    micro_recall: float | None
    micro_f1: float | None
    pr_curve: PrecisionRecallCurve
    f1_curve: F1Curve


def evaluate_detections(
    annotations: Annotations, results: Sequence[Mapping[str, Any]], *, detections: int = COCOS_DETECTIONS
) -> DetectionMetrics:
    """Compute COCO's 12 numbers, and precision, recall and F1 at IoU 0.5 over the confidence threshold.

    The matching for the latter is COCO's at IoU 0.5, all areas, at most 100 detections per image and class, or more if
    more are kept. It goes by descending score, so it holds for every threshold. Precision without any detection counts
    as 0.

    Args:
        annotations: The ground truth.
        results: Detections in COCO's results format: ``image_id``, ``category_id``, ``bbox`` (x, y, w, h) [px] and
            ``score``; the caller must not pass an image's detections twice.
        detections: Number of detections kept per image. Above 100, all metrics except ``at_100`` use this many.
    """
    require_known_results(annotations, results)
    most = max(detections, COCOS_DETECTIONS)
    evaluation = match_detections(annotations, results, most=most)
    evaluation.accumulate()
    counts = count_matches(collect_matches(evaluation, annotations)[ALL_AREAS])
    curve = f1_curve(counts)
    best = int(np.argmax(curve.f1)) if curve.f1 else None
    return DetectionMetrics(
        coco=coco_numbers(evaluation, most=most),
        at_100=coco_numbers(evaluation),
        detections=most,
        per_class=tuple(per_class(evaluation, annotations, counts, best)),
        pr_curve=pr_curve(evaluation),
        f1_curve=curve,
        **summarize(counts, best),
    )


def f1_curve(counts: Counts) -> F1Curve:
    """Compute macro precision, recall and F1: their means over the classes that have objects."""
    present = counts.select(counts.objects[:, 0] > 0)
    if not len(present.objects):
        return F1Curve((), (), (), ())
    means = (values.mean(0) for values in (present.precision, present.recall, present.f1))
    return F1Curve(tuple(THRESHOLDS.tolist()), *(tuple(mean.tolist()) for mean in means))


def summarize(counts: Counts, best: int | None) -> dict[str, float | None]:
    """Return macro and micro precision, recall and F1 at the best threshold."""
    names = ("precision", "recall", "f1")
    if best is None:
        return dict.fromkeys(("threshold", *names, *(f"micro_{name}" for name in names)))
    macro, micro = counts.select(counts.objects[:, 0] > 0), counts.total()
    summary: dict[str, float | None] = {"threshold": float(THRESHOLDS[best])}
    for name in names:
        summary[name] = float(getattr(macro, name)[:, best].mean())
        summary[f"micro_{name}"] = float(getattr(micro, name)[0, best])
    return summary


def per_class(
    evaluation: COCOeval, annotations: Annotations, counts: Counts, best: int | None
) -> Iterator[ClassMetrics]:
    """Yield every class's metrics; precision, recall and F1 are at the best threshold."""
    precisions = arrays(evaluation)["precision"][:, :, :, ALL_AREAS, MOST]
    for index, (name, category) in enumerate(zip(annotations.classes, annotations.category_ids, strict=True)):
        objects = int(counts.objects[index, 0])
        if not objects or best is None:
            yield ClassMetrics(name, objects, None, None, None, None, None)
            continue
        precision = precisions[:, :, evaluation.params.cat_ids.index(category)]
        at_best = (float(values[index, best]) for values in (counts.precision, counts.recall, counts.f1))
        yield ClassMetrics(name, objects, float(precision.mean()), float(precision[IOU_50].mean()), *at_best)


def pr_curve(evaluation: COCOeval) -> PrecisionRecallCurve:
    """Return precision over recall at IoU 0.5, averaged over the classes that have objects."""
    precision = arrays(evaluation)["precision"][IOU_50, :, :, ALL_AREAS, MOST]
    present = precision[:, (precision > -1).all(0)]
    if not present.size:
        return PrecisionRecallCurve((), ())
    return PrecisionRecallCurve(tuple(evaluation.params.rec_thrs), tuple(present.mean(1).tolist()))


def arrays(evaluation: COCOeval) -> dict[str, np.ndarray]:
    """Return the arrays that an evaluation has accumulated."""
    assert evaluation.eval is not None
    return evaluation.eval
