"""Evaluation in COCO's format: ground truth and results, their matching by hotcoco, and COCO's 12 numbers."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hotcoco import COCO, COCOeval
from torch import Tensor

from detection.data.records import IGNORE_LABEL, Annotations, ImageRecord
from odebackbones.errors import InputError, unknown_name

COCO_NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)

COCOS_DETECTIONS = 100
"""Largest number of detections per image and class that COCO judges."""

MAX_DETECTIONS = (1, 10, COCOS_DETECTIONS)
"""Largest numbers of detections per image and class in COCO's numbers."""

# Indices of IoU 0.5 and 0.75, area "all" and the most detections per image in COCOeval's arrays.
IOU_50, IOU_75, ALL_AREAS, MOST = 0, 5, 0, -1

AREAS = ("", "small", "medium", "large")
"""Names of COCOeval's areas in COCO's numbers."""


def coco_dataset(annotations: Annotations) -> dict[str, Any]:
    """Return the ground truth as COCO's JSON has it, with the data set's own category ids.

    Crowds are ignored in matching. A region of no class (``IGNORE_LABEL``) becomes one crowd per category, so that a
    detection on it is ignored whatever its class.
    """
    return {
        "info": {"description": annotations.name},
        "images": [{"id": r.image_id, "width": r.width, "height": r.height} for r in annotations.images],
        "categories": [
            {"id": category, "name": name}
            for category, name in zip(annotations.category_ids, annotations.classes, strict=True)
        ],
        # Ids start at 1: COCOeval treats a match with annotation 0 as no match.
        "annotations": [{"id": number, **entry} for number, entry in enumerate(ground_truth_entries(annotations), 1)],
    }


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


def match_detections(
    annotations: Annotations,
    results: Sequence[Mapping[str, Any]],
    *,
    most: int = COCOS_DETECTIONS,
) -> COCOeval:
    """Match detections with objects by COCO's rules, as pycocotools does.

    T.-Y. Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014, arXiv:1405.0312

    Args:
        annotations: The ground truth.
        results: Detections in COCO's results format.
        most: Largest number of detections per image and class, at least COCO's 100.
    """
    columns = [[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in results]
    truth = COCO(coco_dataset(annotations))
    found = truth.load_res(np.array(columns, dtype=np.float64).reshape(-1, 7))
    evaluation = COCOeval(truth, found, "bbox")
    parameters = evaluation.params
    parameters.max_dets = sorted({*MAX_DETECTIONS, most})
    evaluation.evaluate()
    return evaluation


def coco_numbers(evaluation: COCOeval, *, most: int = COCOS_DETECTIONS) -> dict[str, float | None]:
    """Return COCO's 12 numbers, over at most this many detections of each image and class.

    They are averaged as in pycocotools' ``summarize``.
    """
    arrays: Any = evaluation.eval
    allowed = evaluation.params.max_dets
    precision, recall = arrays["precision"][..., allowed.index(most)], arrays["recall"]
    defined: dict[str, np.ndarray] = {
        "AP": precision[..., ALL_AREAS],
        "AP50": precision[IOU_50, ..., ALL_AREAS],
        "AP75": precision[IOU_75, ..., ALL_AREAS],
    }
    for number, area in list(enumerate(AREAS))[1:]:
        defined[f"AP_{area}"] = precision[..., number]
        defined[f"AR_{area}"] = recall[..., number, allowed.index(most)]
    for number in MAX_DETECTIONS[:-1]:
        defined[f"AR_{number}"] = recall[..., ALL_AREAS, allowed.index(number)]
    defined["AR_100"] = recall[..., ALL_AREAS, allowed.index(most)]
    return {name: mean_of_defined(defined[name]) for name in COCO_NAMES}


def mean_of_defined(values: np.ndarray) -> float | None:
    """Average the defined values, which are those above -1: pycocotools writes -1 for undefined ones."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
