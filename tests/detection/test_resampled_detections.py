"""Resampled metrics of a detector, against evaluations of sets in which images are repeated."""

from dataclasses import replace

import numpy as np
import pytest
from test_metrics import random_scene

from detection.coco_evaluation import match_detections
from detection.matches import collect_matches
from detection.metrics import evaluate_detections
from detection.report import accuracy_quantities
from detection.resampling import resample_detections, resampled_at_threshold, resampled_numbers
from engine.measure.resampling import interval

NEAR = {"rel": 1e-4, "abs": 5e-4}
"""Recalls at the border of a hundredth may be rounded otherwise."""


def values(metrics):
    return {q.name: q.value for q in accuracy_quantities(metrics) if q.better != "neither" or "macro" in q.name}


def repeated(data, results, weights):
    """The data set with each image as often as its weight says, under new ids."""
    images, found = [], []
    for record, weight in zip(data.images, weights, strict=True):
        for _ in range(weight):
            number = len(images) + 1
            images.append(replace(record, image_id=number))
            found += [{**each, "image_id": number} for each in results if each["image_id"] == record.image_id]
    return replace(data, images=tuple(images)), found


@pytest.mark.parametrize(("seed", "detections"), [(0, 100), (1, 100), (2, 300)])
def test_a_resample_has_the_metrics_of_the_set_with_repeated_images(seed, detections):
    data, results = random_scene(seed, images=15)
    metrics = evaluate_detections(data, results, detections=detections)
    weights = np.random.default_rng(seed).integers(0, 4, len(data.images))
    areas = collect_matches(match_detections(data, results, most=metrics.detections), data)
    columns = np.stack([np.ones(len(weights)), weights], axis=1).astype(np.float32)
    found = resampled_numbers(areas, metrics, columns)
    again = evaluate_detections(*repeated(data, results, weights), detections=detections)
    at_threshold = {name for name in found if "macro" in name or "micro" in name}
    assert set(found) == set(values(metrics)) and len(at_threshold) == 6
    for name, value in values(metrics).items():
        assert found[name][0] == pytest.approx(np.nan if value is None else value, nan_ok=True, **NEAR), name
    for name, value in values(again).items():
        if name not in at_threshold:  # whose threshold may be another one there
            assert found[name][1] == pytest.approx(np.nan if value is None else value, nan_ok=True, **NEAR), name


def test_precision_and_recall_at_a_threshold_count_repeated_images_as_often():
    data, results = random_scene(3)
    weights = np.random.default_rng(0).integers(0, 4, len(data.images))
    kept = [each for each in results if each["score"] >= 0.4]
    [classes, *_] = collect_matches(match_detections(data, results), data)
    found = resampled_at_threshold(classes, 0.4, weights[:, None].astype(np.float32))
    again = evaluate_detections(*repeated(data, kept, weights))
    lowest = {"precision": again.f1_curve.precision[0], "recall": again.f1_curve.recall[0], "F1": again.f1_curve.f1[0]}
    assert {name: found[f"{name} (macro)"].item() for name in lowest} == pytest.approx(lowest, rel=1e-5)


def test_all_resamples_come_in_chunks_and_without_detections_they_are_zero():
    data, results = random_scene(4)
    found = resample_detections(data, results, evaluate_detections(data, results))
    assert {each.shape for each in found.values()} == {(1000,)}
    assert 0 < found["AP50"].std() < 0.2
    none = resample_detections(data, [], evaluate_detections(data, []))
    assert not none["AP"].any()


def test_a_class_that_two_images_have_leaves_the_means_without_an_interval():
    """Resamples without the class would average other classes."""
    data, results = random_scene(6, category_ids=(1, 2), images=30)
    rare = [replace(r, labels=np.where(r.labels == 2, 1, r.labels)) for r in data.images[2:]]
    data = replace(data, images=(*data.images[:2], *rare))
    metrics = evaluate_detections(data, results)
    found = resample_detections(data, results, metrics)
    assert np.isnan(found["AP"]).any() and interval(metrics.coco["AP"], found["AP"], images=30) is None
    assert interval(metrics.micro_f1, found["F1 (micro)"], images=30) is not None
