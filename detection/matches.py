"""Which detections matched an object, as arrays: what counts, curves and resamples are made of."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCOeval

from detection.data.records import Annotations


@dataclass(frozen=True)
class Matches:
    """Detections of one class, judged for objects of one area, in the order of descending confidence.

    Attributes:
        image: Number of the image of each detection, ``(D,)``.
        score: Its confidence, ``(D,)``.
        rank: Its rank among the detections of the class in its image, from 0, ``(D,)``.
        true: Whether it matched an object, at every IoU threshold, ``(T, D)``.
        counted: Whether it counts: it did not match what is ignored, and is not unmatched and of another area,
            ``(T, D)``.
        objects: Number of objects in every image, ``(N,)``.
    """

    image: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    true: np.ndarray
    counted: np.ndarray
    objects: np.ndarray


def collect_matches(evaluation: COCOeval, annotations: Annotations) -> list[list[Matches]]:
    """Return the matches of an evaluation by the numbers of areas and of classes."""
    parameters = evaluation.params
    areas = {tuple(limits): number for number, limits in enumerate(parameters.area_rng)}
    numbers = {image_id: number for number, image_id in enumerate(r.image_id for r in annotations.images)}
    entries: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for entry in evaluation.eval_imgs:
        if entry is not None:
            entries[areas[tuple(entry["aRng"])], entry["category_id"]].append(entry)
    return [
        [
            join_images(entries[area, category], numbers, len(parameters.iou_thrs))
            for category in annotations.category_ids
        ]
        for area in range(len(areas))
    ]


def join_images(entries: Sequence[Any], numbers: dict[int, int], thresholds: int) -> Matches:
    """Join the entries of a class and area, in the order of the images' ids, as pycocotools does."""
    found = sorted(entries, key=lambda entry: entry["image_id"])
    sizes = [len(entry["dtScores"]) for entry in found]
    images = np.array([numbers[entry["image_id"]] for entry in found], dtype=np.int64)
    score = joined([entry["dtScores"] for entry in found], np.float64)
    none = np.zeros((thresholds, 0), bool)
    true, ignored = (
        np.concatenate([none, *(np.array(entry[name], bool).reshape(thresholds, -1) for entry in found)], axis=1)
        for name in ("dtMatched", "dtIgnore")
    )
    objects = np.zeros(len(numbers), np.float32)
    for number, entry in zip(images, found, strict=True):
        objects[number] += len(entry["gtIgnore"]) - sum(entry["gtIgnore"])
    order = np.argsort(-score, kind="stable")
    rank = joined([range(size) for size in sizes], np.int64)
    counted = ~ignored
    return Matches(
        np.repeat(images, sizes)[order],
        score[order],
        rank[order],
        (true & counted)[:, order],
        counted[:, order],
        objects,
    )


def joined(parts: Sequence[Any], dtype: Any) -> np.ndarray:
    """Join sequences of numbers, of which there may be none."""
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(part, dtype) for part in parts)])
