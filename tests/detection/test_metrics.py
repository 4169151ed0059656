"""Detection metrics against hand-counted examples and against pycocotools run on files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.coco_evaluation import COCO_NAMES, coco_dataset, to_coco_results
from detection.data.records import IGNORE_LABEL, Annotations, ImageRecord
from detection.metrics import evaluate_detections
from odebackbones.errors import InputError


def record(image_id, boxes, labels, crowd=None):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    crowd = np.array([label == IGNORE_LABEL for label in labels] if crowd is None else crowd, dtype=bool)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return ImageRecord(image_id, Path(f"{image_id}.png"), 640, 480, boxes, np.array(labels, np.int64), crowd, area)


def annotations(*images, category_ids=(1, 2)):
    names = tuple(f"class {category}" for category in category_ids)
    return Annotations("a test", images, names, tuple(category_ids))


def detection(image_id, category_id, box, score):
    x1, y1, x2, y2 = box
    return {"image_id": image_id, "category_id": category_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


def random_scene(seed, category_ids=(3, 7, 90), images=12):
    """Random objects, some of them crowds or of no class, and detections near them and elsewhere."""
    random = np.random.default_rng(seed)
    records, results = [], []
    for image_id in random.choice(1000, images, replace=False).tolist():
        corners = random.uniform(0, 300, (8, 2))
        boxes = np.concatenate((corners, corners + random.uniform(5, 150, (8, 2))), axis=1)
        labels = random.integers(0, len(category_ids) + 1, 8)
        crowd = (labels == IGNORE_LABEL) | (random.uniform(size=8) < 0.1)
        records.append(record(image_id, boxes, labels, crowd))
        for box in np.concatenate((boxes, boxes, random.uniform(0, 300, (4, 4)))):
            x1, y1, x2, y2 = box + random.normal(0, 6, 4)
            if x2 > x1 and y2 > y1:
                category = int(random.choice(category_ids))
                results.append(detection(image_id, category, (x1, y1, x2, y2), float(random.uniform())))
    return annotations(*records, category_ids=category_ids), results


def pycocotools_by_hand(data, results, folder):
    """The 12 numbers of pycocotools reading JSON files that are written here without our code."""
    entries = []
    for image in data.images:
        for box, label, crowd, area in zip(image.boxes, image.labels, image.crowd, image.area, strict=True):
            x1, y1, x2, y2 = (float(value) for value in box)
            shared = {"image_id": image.image_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(area)}
            categories = data.category_ids if label == 0 else [data.category_ids[label - 1]]
            entries += [shared | {"category_id": category, "iscrowd": int(crowd)} for category in categories]
    truth = {
        "images": [{"id": image.image_id} for image in data.images],
        "categories": [{"id": category, "name": str(category)} for category in data.category_ids],
        "annotations": [entry | {"id": 100 + number} for number, entry in enumerate(entries)],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    coco = COCO(str(folder / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(3))
def test_the_12_numbers_equal_those_of_pycocotools_on_files(seed, tmp_path):
    data, results = random_scene(seed)
    expected = pycocotools_by_hand(data, results, tmp_path)
    metrics = evaluate_detections(data, results)
    assert tuple(metrics.coco) == COCO_NAMES
    np.testing.assert_array_equal([metrics.coco[name] for name in COCO_NAMES], expected)
    assert 0 < metrics.coco["AP"] < 1


def test_precision_recall_and_f1_equal_a_count_by_hand():
    """Class 1: 3 objects; hits at .9 and .6, a double at .8, a miss at .3. Class 2: 1 object; miss .7, hit .5."""
    a, b, c, far = (10, 10, 60, 60), (100, 100, 180, 160), (200, 10, 260, 90), (400, 300, 500, 400)
    data = annotations(record(1, [a, b, c], [1, 1, 1]), record(2, [a], [2]))
    results = [
        *(detection(1, 1, box, score) for box, score in [(a, 0.9), (a, 0.8), (b, 0.6), (far, 0.3)]),
        *(detection(2, 2, box, score) for box, score in [(far, 0.7), (a, 0.5)]),
    ]
    metrics = evaluate_detections(data, results)
    curve = metrics.f1_curve
    # At 0.5: class 1 has TP 2, FP 1, FN 1: F1 = 4/6; class 2 has TP 1, FP 1, FN 0: F1 = 2/3.
    assert curve.thresholds[50] == 0.5
    assert (curve.precision[50], curve.recall[50], curve.f1[50]) == pytest.approx((7 / 12, 5 / 6, 2 / 3))
    # At 0.65 class 1 has TP 1, FP 1, FN 2, class 2 TP 0, FP 1; at 0.95 nothing is left.
    assert curve.f1[65] == pytest.approx((2 / 5 + 0) / 2)
    assert (curve.precision[95], curve.recall[95], curve.f1[95]) == (0, 0, 0)
    # At 0.3 the miss costs precision; so the best is just above it.
    assert curve.f1[30] == pytest.approx((4 / 7 + 2 / 3) / 2)
    assert metrics.threshold == 0.31
    assert (metrics.precision, metrics.recall, metrics.f1) == pytest.approx((7 / 12, 5 / 6, 2 / 3))
    assert (metrics.micro_precision, metrics.micro_recall, metrics.micro_f1) == pytest.approx((3 / 5, 3 / 4, 6 / 9))
    first = metrics.per_class[0]
    assert (first.name, first.objects) == ("class 1", 3)
    assert (first.precision, first.recall, first.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    # Interpolated precision: 1 up to recall 1/3, 2/3 up to 2/3, then 0: 34, 33 and 34 of the 101 recalls.
    assert first.ap50 == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_perfect_detections_score_one():
    data, _ = random_scene(0)
    data = replace(data, images=tuple(replace(image, crowd=image.labels == IGNORE_LABEL) for image in data.images))
    predictions = [
        {
            "boxes": torch.from_numpy(image.boxes[image.labels > 0]),
            "labels": torch.from_numpy(image.labels[image.labels > 0]),
            "scores": torch.ones(int((image.labels > 0).sum())),
        }
        for image in data.images
    ]
    results = to_coco_results([image.image_id for image in data.images], predictions, data.category_ids)
    metrics = evaluate_detections(data, results)
    assert metrics.coco["AP"] == pytest.approx(1) and metrics.coco["AR_100"] == 1
    assert (metrics.precision, metrics.recall, metrics.f1, metrics.micro_f1) == (1, 1, 1, 1)
    assert metrics.pr_curve.precision == pytest.approx([1] * 101)
    assert metrics.pr_curve.recall == pytest.approx(np.arange(101) / 100)


@pytest.mark.parametrize(("label", "crowd"), [(IGNORE_LABEL, True), (IGNORE_LABEL, False), (2, True)])
def test_detections_on_ignored_regions_count_neither_way(label, crowd):
    object_, region = (10, 10, 60, 60), (200, 100, 400, 300)
    data = annotations(record(1, [object_, region], [2, label], [False, crowd]), category_ids=(4, 9))
    hit = detection(1, 9, object_, 0.9)
    inside = [detection(1, 9, (210, 110, 260, 160), 0.95), detection(1, 9, (300, 200, 390, 290), 0.97)]
    metrics = evaluate_detections(data, [hit, *inside])
    assert metrics.coco["AP"] == pytest.approx(1)
    assert (metrics.precision, metrics.recall, metrics.per_class[1].objects) == (1, 1, 1)
    elsewhere = evaluate_detections(data, [hit, detection(1, 9, (450, 400, 500, 450), 0.95)])
    assert elsewhere.precision == 0.5


def test_no_detections_score_zero_and_do_not_fail():
    data, _ = random_scene(1)
    metrics = evaluate_detections(data, [])
    assert set(metrics.coco.values()) == {0.0}
    assert (metrics.precision, metrics.recall, metrics.f1, metrics.threshold) == (0, 0, 0, 0)
    assert all(entry.ap == 0 and entry.objects > 0 for entry in metrics.per_class)


def test_a_class_without_objects_is_none_and_left_out_of_the_mean():
    box = (10, 10, 60, 60)
    data = annotations(record(1, [box], [1]), record(2, [], []))
    metrics = evaluate_detections(data, [detection(1, 1, box, 0.9), detection(2, 2, box, 0.9)])
    absent = metrics.per_class[1]
    assert (absent.objects, absent.ap, absent.ap50, absent.precision, absent.recall, absent.f1) == (0, *[None] * 5)
    assert (metrics.coco["AP"], metrics.f1, metrics.precision) == (pytest.approx(1), 1, 1)
    assert metrics.micro_precision == 0.5
    assert metrics.coco["AP_large"] is None


def test_a_data_set_without_objects_has_no_figures():
    metrics = evaluate_detections(annotations(record(1, [], [])), [])
    assert set(metrics.coco.values()) == {None}
    assert (metrics.threshold, metrics.f1, metrics.micro_f1) == (None, None, None)
    assert metrics.pr_curve.precision == () and metrics.f1_curve.f1 == ()


def test_category_ids_with_gaps_and_out_of_order_keep_their_classes():
    first, second = (10, 10, 60, 60), (200, 100, 300, 300)
    data = annotations(record(5, [first, second, first], [1, 2, 3]), category_ids=(90, 3, 18))
    results = [detection(5, 90, first, 0.9), detection(5, 18, second, 0.8)]
    f1 = {entry.name: entry.f1 for entry in evaluate_detections(data, results).per_class}
    assert f1 == {"class 90": 1, "class 3": 0, "class 18": 0}
    assert [category["id"] for category in coco_dataset(data)["categories"]] == [90, 3, 18]


def test_results_hold_the_categories_and_exact_boxes_of_the_predictions():
    boxes = torch.tensor([[0.1, 0.2, 10.7, 20.9]])
    given = boxes.double()
    prediction = {"boxes": given, "labels": torch.tensor([2]), "scores": torch.tensor([0.123456789])}
    (result,) = to_coco_results([7], [prediction], (1, 90))
    assert (result["image_id"], result["category_id"]) == (7, 90)
    x, y, width, height = result["bbox"]
    assert [x, y, x + width, y + height] == pytest.approx(boxes[0].tolist(), abs=1e-12)
    assert result["score"] == prediction["scores"].item()
    assert torch.equal(given, boxes.double()), "the prediction is left as it was"
    with pytest.raises(ValueError, match=r"label 2, outside 1\.\.1"):
        to_coco_results([7], [prediction], (1,))


def test_unknown_images_and_categories_and_nan_are_refused():
    data = annotations(record(1, [(0, 0, 9, 9)], [1]))
    with pytest.raises(InputError, match="image id 3"):
        evaluate_detections(data, [detection(3, 1, (0, 0, 9, 9), 0.5)])
    with pytest.raises(InputError, match="unknown category id '5'"):
        evaluate_detections(data, [detection(1, 5, (0, 0, 9, 9), 0.5)])
    with pytest.raises(InputError, match="finite"):
        evaluate_detections(data, [detection(1, 1, (0, 0, 9, 9), float("nan"))])


def test_the_results_given_are_not_changed_and_nothing_is_printed(capsys):
    data, results = random_scene(2, images=3)
    before = json.dumps(results)
    evaluate_detections(data, results)
    assert json.dumps(results) == before
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_perfect_detections_of_more_than_100_objects_are_perfect_if_as_many_are_kept():
    corners = np.stack(np.meshgrid(np.arange(0.0, 300, 20), np.arange(0.0, 200, 20)), -1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + 10], 1)
    data = annotations(record(1, boxes, np.ones(len(boxes), np.int64)), category_ids=(1,))
    results = [detection(1, 1, box, 0.9 - 0.001 * i) for i, box in enumerate(boxes.tolist())]
    few, all_kept = (evaluate_detections(data, results, detections=n) for n in (100, 150))
    assert all_kept.detections == 150
    assert all_kept.coco["AP"] == all_kept.f1 == 1.0
    assert few.coco == few.at_100 == all_kept.at_100
    assert few.coco["AP"] == pytest.approx(0.67, abs=0.01)  # 67 of the 101 recalls are reached by 100 of 150
