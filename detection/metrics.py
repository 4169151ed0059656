"""How good detections are: COCO's 12 numbers by pycocotools, and precision, recall and F1 from its own matching."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from odebackbones.errors import InputError, unknown_name

from .data.records import IGNORE_LABEL, Annotations, ImageRecord

COCO_NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
THRESHOLDS = np.arange(101) / 100

COCOS_DETECTIONS = 100
"""Detections an image and class that COCO judges."""

# Where COCOeval's arrays hold IoU 0.5, area "all" and the most detections an image.
_IOU_50, _ALL_AREAS, _MAX_DETECTIONS = 0, 0, -1


@dataclass(frozen=True)
class ClassMetrics:
    """One class's figures; precision, recall and F1 stand at the common threshold. ``None``: it has no objects."""

    name: str
    objects: int
    ap: float | None
    ap50: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision at IoU 0.5, mean over the classes that have objects, at recall 0, 0.01 .. 1."""

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
    """All figures of one evaluation; ``None`` where the data set has no object that would define a figure.

    Args:
        coco: COCO's 12 numbers by the names of ``COCO_NAMES``, of all detections that are kept.
        at_100: The same of at most 100 detections an image, which is COCO's rule.
        detections: How many an image and class were judged.
        per_class: One entry a class, in the data set's order.
        threshold: The confidence at which macro F1 is highest; the lowest of several.
        precision: Macro precision there: the mean over the classes that have objects.
        recall: Macro recall.
        f1: Macro F1: the mean of the classes' F1, not the F1 of the means.
        micro_precision: Precision there with all classes' counts added up, those without objects included.
        micro_recall: The same for recall.
        micro_f1: The same for F1.
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


@dataclass(frozen=True)
class _Counts:
    """True positives, false positives and objects; arrays: (C, T) for C classes and T thresholds, objects (C, 1)."""

    true: np.ndarray
    false: np.ndarray
    objects: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        return _ratio(self.true, self.true + self.false)

    @property
    def recall(self) -> np.ndarray:
        return _ratio(self.true, np.broadcast_to(self.objects, self.true.shape))

    @property
    def f1(self) -> np.ndarray:
        """F1 = 2PR / (P + R) = 2 TP / (TP + FP + TP + FN)."""
        return _ratio(2 * self.true, self.true + self.false + self.objects)

    def select(self, classes: np.ndarray) -> _Counts:
        return _Counts(self.true[classes], self.false[classes], self.objects[classes])

    def total(self) -> _Counts:
        return _Counts(*(counts.sum(0, keepdims=True) for counts in (self.true, self.false, self.objects)))


def coco_ground_truth(annotations: Annotations) -> COCO:
    """Build pycocotools' ground truth in memory, with the data set's own category ids.

    Crowds are ignored in matching. A region of no class (``IGNORE_LABEL``) becomes one crowd a category, so that a
    detection on it is ignored whatever its class.
    """
    dataset: Any = {
        "info": {"description": annotations.name},
        "images": [{"id": r.image_id, "width": r.width, "height": r.height} for r in annotations.images],
        "categories": [
            {"id": category, "name": name}
            for category, name in zip(annotations.category_ids, annotations.classes, strict=True)
        ],
        # Ids start at 1: COCOeval takes a match with annotation 0 for none.
        "annotations": [{"id": number, **entry} for number, entry in enumerate(_ground_truth(annotations), start=1)],
    }
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def to_coco_results(
    image_ids: Iterable[int], predictions: Iterable[Mapping[str, Tensor]], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Turn torchvision's predictions into COCO's results format.

    Args:
        image_ids: One id an image.
        predictions: One dict an image: ``boxes: (N, 4)``, xyxy [px]; ``labels: (N,)``, 1..C; ``scores: (N,)``.
        category_ids: The data set's ids of the labels 1..C.
    """
    results: list[dict[str, Any]] = []
    for image_id, prediction in zip(image_ids, predictions, strict=True):
        corners = prediction["boxes"].detach().cpu().double()
        boxes = torch.cat((corners[:, :2], corners[:, 2:] - corners[:, :2]), dim=1)
        for box, label, score in zip(
            boxes.tolist(), prediction["labels"].tolist(), prediction["scores"].tolist(), strict=True
        ):
            if not 1 <= label <= len(category_ids):
                raise ValueError(f"image {image_id} has a prediction of label {label}, outside 1..{len(category_ids)}")
            category = category_ids[label - 1]
            results.append({"image_id": int(image_id), "category_id": category, "bbox": box, "score": score})
    return results


def evaluate_detections(
    annotations: Annotations, results: Sequence[Mapping[str, Any]], *, detections: int = COCOS_DETECTIONS
) -> DetectionMetrics:
    """Judge detections: COCO's 12 numbers, and precision, recall and F1 at IoU 0.5 over the confidence threshold.

    The matching is COCOeval's (T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", 2014,
    https://arxiv.org/abs/1405.0312) at IoU 0.5, all areas, at most 100 detections an image and class, or as many more
    as are kept. It goes by descending score, so it holds for every threshold. Precision without any detection counts
    as 0.

    Args:
        annotations: The ground truth.
        results: COCO's results format: ``image_id``, ``category_id``, ``bbox`` (x, y, w, h) [px] and ``score``;
            an image counted twice is the caller's matter.
        detections: Kept in an image. Beyond 100, all figures but ``at_100`` are of so many.
    """
    _check(annotations, results)
    evaluation = _run_cocoeval(coco_ground_truth(annotations), results, most=max(detections, COCOS_DETECTIONS))
    counts = _count(evaluation, annotations.category_ids)
    curve = _f1_curve(counts)
    best = int(np.argmax(curve.f1)) if curve.f1 else None
    return DetectionMetrics(
        coco=_of_all_kept(evaluation) if detections > COCOS_DETECTIONS else _cocos(evaluation),
        at_100=_cocos(evaluation),
        detections=max(detections, COCOS_DETECTIONS),
        per_class=tuple(_per_class(evaluation, annotations, counts, best)),
        pr_curve=_pr_curve(evaluation),
        f1_curve=curve,
        **_summary(counts, best),
    )


def _ground_truth(annotations: Annotations) -> Iterator[dict[str, Any]]:
    for record in annotations.images:
        for index, label in enumerate(record.labels.tolist()):
            if label == IGNORE_LABEL:
                yield from (_entry(record, index, category, crowd=True) for category in annotations.category_ids)
            else:
                yield _entry(record, index, annotations.category_ids[label - 1], crowd=bool(record.crowd[index]))


def _entry(record: ImageRecord, index: int, category: int, *, crowd: bool) -> dict[str, Any]:
    x1, y1, x2, y2 = map(float, record.boxes[index])
    box = [x1, y1, x2 - x1, y2 - y1]
    area = float(record.area[index])
    return {"image_id": record.image_id, "category_id": category, "bbox": box, "area": area, "iscrowd": int(crowd)}


def _check(annotations: Annotations, results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse detections on unknown images, of unknown categories, and with numbers that are not finite."""
    images = {record.image_id for record in annotations.images}
    categories = set(annotations.category_ids)
    for result in results:
        if result["image_id"] not in images:
            raise InputError(
                f"image id {result['image_id']!r} of the detections is not in {annotations.name!r} "
                f"({len(images)} images); evaluate with the annotations that the detections were made for"
            )
        if result["category_id"] not in categories:
            raise unknown_name("category id", str(result["category_id"]), map(str, categories))
        if not all(map(math.isfinite, (*result["bbox"], result["score"]))):
            raise InputError(f"detections must hold finite numbers, got {dict(result)}; look for NaN in the training")


def _run_cocoeval(truth: COCO, results: Sequence[Mapping[str, Any]], *, most: int) -> COCOeval:
    """Run pycocotools, silently; its ``loadRes`` writes into the results and takes no empty list."""
    copies: Any = [dict(result) for result in results]  # loadRes takes a list; its type stub says a file name only
    with contextlib.redirect_stdout(io.StringIO()):
        detections = truth.loadRes(copies) if copies else COCO()
        evaluation = COCOeval(truth, detections, "bbox")
        if most > COCOS_DETECTIONS:
            evaluation.params.maxDets = [*evaluation.params.maxDets, most]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _cocos(evaluation: COCOeval) -> dict[str, float | None]:
    """pycocotools' own 12 numbers."""
    return {name: _defined(value) for name, value in zip(COCO_NAMES, evaluation.stats, strict=True)}


def _of_all_kept(evaluation: COCOeval) -> dict[str, float | None]:
    """The 12 numbers with all detections judged, where COCO's are of 100: means as pycocotools' ``summarize``."""
    precision, recall = (evaluation.eval[name][..., _MAX_DETECTIONS] for name in ("precision", "recall"))
    found = _cocos(evaluation)
    for name, at in (("AP", slice(None)), ("AP50", [0]), ("AP75", [5])):
        found[name] = _mean(precision[at, :, :, _ALL_AREAS])
    for number, size in enumerate(("small", "medium", "large"), start=1):
        found[f"AP_{size}"], found[f"AR_{size}"] = _mean(precision[..., number]), _mean(recall[..., number])
    return found | {"AR_100": _mean(recall[..., _ALL_AREAS])}


def _mean(values: np.ndarray) -> float | None:
    """Over what is defined."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _count(evaluation: COCOeval, category_ids: Sequence[int]) -> _Counts:
    """Count every class's matches at IoU 0.5 at each threshold; ``evalImgs`` runs over class, area, image."""
    parameters = evaluation.params
    stride = len(parameters.areaRng) * len(parameters.imgIds)
    starts = [parameters.catIds.index(category) * stride for category in category_ids]
    counts = [_count_class(evaluation.evalImgs[start : start + len(parameters.imgIds)]) for start in starts]
    true, false, objects = (np.array(part) for part in zip(*counts, strict=True))
    return _Counts(true, false, objects[:, None])


def _count_class(images: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, int]:
    """Count true and false positives, ``(T,)`` each, and objects; what touches only ignored regions is neither."""
    entries = [entry for entry in images if entry is not None]
    if not entries:
        return np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS)), 0
    scores = np.concatenate([entry["dtScores"] for entry in entries])
    matched = np.concatenate([entry["dtMatches"][_IOU_50] for entry in entries]) > 0
    counted = ~np.concatenate([entry["dtIgnore"][_IOU_50] for entry in entries]).astype(bool)
    objects = sum(int(np.count_nonzero(entry["gtIgnore"] == 0)) for entry in entries)
    return _at_least(scores[matched & counted]), _at_least(scores[~matched & counted]), objects


def _at_least(scores: np.ndarray) -> np.ndarray:
    """Count the scores at or above each threshold: (N,) -> (T,)."""
    return (len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="left")).astype(float)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with 0 / 0 = 0."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _f1_curve(counts: _Counts) -> F1Curve:
    """Average precision, recall and F1 over the classes that have objects."""
    present = counts.select(counts.objects[:, 0] > 0)
    if not len(present.objects):
        return F1Curve((), (), (), ())
    means = (values.mean(0) for values in (present.precision, present.recall, present.f1))
    return F1Curve(tuple(THRESHOLDS.tolist()), *(tuple(mean.tolist()) for mean in means))


def _summary(counts: _Counts, best: int | None) -> dict[str, float | None]:
    """Macro and micro precision, recall and F1 at the best threshold."""
    names = ("precision", "recall", "f1")
    if best is None:
        return dict.fromkeys(("threshold", *names, *(f"micro_{name}" for name in names)))
    macro, micro = counts.select(counts.objects[:, 0] > 0), counts.total()
    summary: dict[str, float | None] = {"threshold": float(THRESHOLDS[best])}
    for name in names:
        summary[name] = float(getattr(macro, name)[:, best].mean())
        summary[f"micro_{name}"] = float(getattr(micro, name)[0, best])
    return summary


def _per_class(
    evaluation: COCOeval, annotations: Annotations, counts: _Counts, best: int | None
) -> Iterator[ClassMetrics]:
    precisions = evaluation.eval["precision"][:, :, :, _ALL_AREAS, _MAX_DETECTIONS]
    for index, (name, category) in enumerate(zip(annotations.classes, annotations.category_ids, strict=True)):
        objects = int(counts.objects[index, 0])
        if not objects or best is None:
            yield ClassMetrics(name, objects, None, None, None, None, None)
            continue
        precision = precisions[:, :, evaluation.params.catIds.index(category)]
        at_best = (float(values[index, best]) for values in (counts.precision, counts.recall, counts.f1))
        yield ClassMetrics(name, objects, float(precision.mean()), float(precision[_IOU_50].mean()), *at_best)


def _pr_curve(evaluation: COCOeval) -> PrecisionRecallCurve:
    precision = evaluation.eval["precision"][_IOU_50, :, :, _ALL_AREAS, _MAX_DETECTIONS]
    present = precision[:, (precision > -1).all(0)]
    if not present.size:
        return PrecisionRecallCurve((), ())
    return PrecisionRecallCurve(tuple(evaluation.params.recThrs.tolist()), tuple(present.mean(1).tolist()))


def _defined(value: float) -> float | None:
    """Turn pycocotools' -1, for no objects at all, into ``None``."""
    return None if value < 0 else float(value)
