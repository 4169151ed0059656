"""Evaluation with pycocotools: ground truth and results in its format, its matching, and its 12 numbers."""

import contextlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from detection.data.records import IGNORE_LABEL, Annotations, ImageRecord
from odebackbones.errors import InputError, unknown_name

COCO_NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)


COCOS_DETECTIONS = 100
"""Largest number of detections per image and class that COCO judges."""


# Indices of IoU 0.5, area "all" and the most detections per image in COCOeval's arrays.
IOU_50, ALL_AREAS, MAX_DETECTIONS = 0, 0, -1


def coco_ground_truth(annotations: Annotations) -> COCO:
    """Build pycocotools' ground truth in memory, with the data set's own category ids.

    Crowds are ignored in matching. A region of no class (``IGNORE_LABEL``) becomes one crowd per category, so that a
    detection on it is ignored whatever its class.
    """
    dataset: Any = {
        "info": {"description": annotations.name},
        "images": [{"id": r.image_id, "width": r.width, "height": r.height} for r in annotations.images],
        "categories": [
            {"id": category, "name": name}
            for category, name in zip(annotations.category_ids, annotations.classes, strict=True)
        ],
        # Ids start at 1: COCOeval treats a match with annotation 0 as no match.
        "annotations": [{"id": number, **entry} for number, entry in enumerate(ground_truth_entries(annotations), 1)],
    }
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def to_coco_results(
    image_ids: Iterable[int], predictions: Iterable[Mapping[str, Tensor]], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Convert torchvision's predictions to COCO's results format.

    Args:
        image_ids: One id per image.
        predictions: One dict per image: ``boxes: (N, 4)``, xyxy [px]; ``labels: (N,)``, 1..C; ``scores: (N,)``.
        category_ids: The data set's ids for the labels 1..C.
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


def ground_truth_entries(annotations: Annotations) -> Iterator[dict[str, Any]]:
    """Yield all boxes in COCO's format, without ids; a region of no class comes once per category."""
    ids = annotations.category_ids
    for record in annotations.images:
        for index, label in enumerate(record.labels.tolist()):
            if label == IGNORE_LABEL:
                yield from (ground_truth_entry(record, index, category, crowd=True) for category in ids)
            else:
                yield ground_truth_entry(record, index, ids[label - 1], crowd=bool(record.crowd[index]))


def ground_truth_entry(record: ImageRecord, index: int, category: int, *, crowd: bool) -> dict[str, Any]:
    """Return one box of an image in COCO's format, without an id."""
    x1, y1, x2, y2 = map(float, record.boxes[index])
    box = [x1, y1, x2 - x1, y2 - y1]
    area = float(record.area[index])
    return {"image_id": record.image_id, "category_id": category, "bbox": box, "area": area, "iscrowd": int(crowd)}


def require_known_results(annotations: Annotations, results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse detections with unknown images, unknown categories or non-finite numbers."""
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


def run_cocoeval(truth: COCO, results: Sequence[Mapping[str, Any]], *, most: int) -> COCOeval:
    """Run pycocotools silently, on copies: its ``loadRes`` changes the results; it also fails on an empty list."""
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


def coco_numbers(evaluation: COCOeval) -> dict[str, float | None]:
    """Return pycocotools' own 12 numbers."""
    return {name: none_if_undefined(value) for name, value in zip(COCO_NAMES, evaluation.stats, strict=True)}


def numbers_of_all(evaluation: COCOeval) -> dict[str, float | None]:
    """Return the 12 numbers over all detections instead of COCO's 100, averaged as in pycocotools' ``summarize``."""
    precision, recall = (evaluation.eval[name][..., MAX_DETECTIONS] for name in ("precision", "recall"))
    found = coco_numbers(evaluation)
    for name, at in (("AP", slice(None)), ("AP50", [0]), ("AP75", [5])):
        found[name] = mean_of_defined(precision[at, :, :, ALL_AREAS])
    for number, size in enumerate(("small", "medium", "large"), start=1):
        found[f"AP_{size}"], found[f"AR_{size}"] = (
            mean_of_defined(precision[..., number]),
            mean_of_defined(recall[..., number]),
        )
    return found | {"AR_100": mean_of_defined(recall[..., ALL_AREAS])}


def mean_of_defined(values: np.ndarray) -> float | None:
    """Average the defined values, which are those above -1: pycocotools writes -1 for undefined ones."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def none_if_undefined(value: float) -> float | None:
    """Convert pycocotools' -1, which stands for no objects at all, to ``None``."""
    return None if value < 0 else float(value)
