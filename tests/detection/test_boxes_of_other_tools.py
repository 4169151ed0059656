"""Boxes, names and ids as other tools write them."""

import json
import logging

import numpy as np
import pytest
from coco_content import CORNERS, STRICT, content
from detection_files import HEIGHT, WIDTH, write_image

from detection.data.coco import read_coco
from odebackbones.errors import InputError


def boxes(annotations):
    return [record.boxes.tolist() for record in annotations.images]


@pytest.mark.parametrize("area", [0, 1, -1, None, "x", 1e9, float("nan")])
def test_an_area_that_cannot_be_is_the_boxs(write_coco, area):
    annotations = read_coco(*write_coco(content([{"area": area}])), STRICT)
    assert annotations.images[0].area.tolist() == [200.0]


@pytest.mark.parametrize("area", [150, 200, "90.5"])
def test_an_area_that_can_be_is_kept(write_coco, area):
    assert read_coco(*write_coco(content([{"area": area}])), STRICT).images[0].area.tolist() == [float(area)]


POLYGON = [[4, 5, 24, 5, 24, 15, 4, 15]]
RUNS = {"size": [HEIGHT, WIDTH], "counts": [4 * HEIGHT + 5, *[10, 20] * 19, 10, (WIDTH - 24) * HEIGHT + 15]}


@pytest.mark.parametrize("bbox", [None, [], ...], ids=["null", "empty", "missing"])
@pytest.mark.parametrize("segmentation", [POLYGON, POLYGON[0], RUNS], ids=["polygons", "polygon", "runs"])
def test_a_box_that_is_missing_is_that_of_the_segmentation(write_coco, bbox, segmentation):
    data = content([{"segmentation": segmentation}])
    if bbox is ...:
        del data["annotations"][0]["bbox"]
    else:
        data["annotations"][0]["bbox"] = bbox
    annotations = read_coco(*write_coco(data), STRICT)
    np.testing.assert_allclose(annotations.images[0].boxes, [[4, 5, 24, 15]])
    assert "the segmentation's is taken" in annotations.problems[0]


def test_boxes_that_are_fractions_are_refused(write_coco):
    with pytest.raises(
        InputError, match=r"100 % of the 2 boxes have no number above 1.* expected \[x, y, width, heigh"
    ):
        read_coco(*write_coco(content([{"bbox": [0.1, 0.2, 0.3, 0.4]}, {"bbox": [0.3, 0.2, 0.3, 0.4]}])))


def test_boxes_that_lie_beyond_their_images_as_corners_do_are_refused(write_coco):
    with pytest.raises(
        InputError, match=r"100 % of the 5 boxes lie mostly beyond .* they fit if read as x1, y1, x2, y"
    ):
        read_coco(*write_coco(content(CORNERS)))


def test_boxes_that_all_fit_as_corners_and_mostly_do_not_as_they_are_expected_are_refused(write_coco):
    boxes_ = [[10, 8, 30, 25], [12, 8, 32, 25], [5, 20, 30, 28], [30, 3, 39, 20], [1, 1, 20, 20]]
    with pytest.raises(
        InputError, match=r"80 % of the 5 boxes lie partly beyond .* they fit if read as x1, y1, x2, y2"
    ):
        read_coco(*write_coco(content([{"bbox": box} for box in boxes_])))


def test_boxes_that_contradict_their_polygons_are_refused_or_noted(write_coco):
    polygon = [[20, 10, 30, 10, 30, 20, 20, 20]]
    corners = [{"bbox": [20, 10, 30, 20 + i / 10], "segmentation": polygon} for i in range(5)]
    with pytest.raises(InputError, match=r"100 % of the 5 boxes contradict the polygons .* if read as x1, y1, x2, y2"):
        read_coco(*write_coco(content(corners)))
    right = [{"bbox": [20, 10, 10, 10 + i / 10], "segmentation": polygon} for i in range(5)]
    annotations = read_coco(*write_coco(content([*right, {"bbox": [1, 2, 5, 5], "segmentation": polygon}])))
    assert annotations.problems[0].endswith("1 of 6 boxes: kept")


def test_a_rotated_box_is_the_upright_one_around_it(write_coco):
    rotated = {"bbox": [10, 10, 8, 4], "attributes": {"rotation": 90}}
    annotations = read_coco(*write_coco(content([rotated])), STRICT)
    np.testing.assert_allclose(annotations.images[0].boxes, [[12, 8, 16, 16]], atol=1e-5)
    assert "rotation 90: the upright box around it is taken" in annotations.problems[0]


def test_a_subset_of_the_images_leaves_out_the_annotations_of_others(write_coco):
    files = write_coco(content([{}, {"image_id": 77}, {"image_id": 78, "bbox": [1, 2, 3, 4]}]))
    annotations = read_coco(*files)
    assert boxes(annotations)[0] == [[4, 5, 24, 15]] and len(annotations.problems) == 2
    with pytest.raises(InputError, match="image_id 77 is not in 'images'"):
        read_coco(*files, STRICT)


@pytest.mark.parametrize(
    "spelling",
    [
        "images\\1 a.png",
        "images/1%20a.png",
        "..\\other\\1 a.png",
        "C:\\data\\1 a.png",
        "/abs/1 a.png",
        "1 A.PNG",
        "1 a",
    ],
)
def test_images_are_found_by_the_names_of_other_systems(write_coco, spelling):
    files = write_coco(content([{}], images=["1 a.png"]))
    data = json.loads(files[0].read_text())
    data["images"][0]["file_name"] = spelling
    files[0].write_text(json.dumps(data))
    annotations = read_coco(*files)
    assert annotations.images[0].path == files[1] / "1 a.png" and len(annotations.problems) == 1
    with pytest.raises(InputError, match="file_name"):
        read_coco(*files, STRICT)


def test_of_two_images_of_one_name_none_is_guessed(write_coco):
    files = write_coco(content([{}, {"image_id": 2}], images=["1.png", "x.png"]))
    for folder in ("a", "b"):
        write_image(files[1] / folder / "x.png")
    (files[1] / "x.png").unlink()
    annotations = read_coco(*files)
    assert len(annotations.images) == 1 and "image file is missing" in annotations.problems[0]


@pytest.mark.parametrize(("image", "reference"), [("7", 7), (7.0, "7"), ("img_a", "img_a"), (7, 7.0)])
def test_ids_may_be_texts_or_floats(write_coco, image, reference):
    data = content([{"image_id": reference, "category_id": "1"}])
    data["images"][2]["id"] = image
    annotations = read_coco(*write_coco(data), STRICT)
    assert boxes(annotations)[2] == [[4, 5, 24, 15]]
    assert all(isinstance(record.image_id, int) for record in annotations.images)


def test_a_byte_order_mark_is_no_part_of_the_content(write_coco):
    files = write_coco(content([{}]))
    files[0].write_text("\ufeff" + files[0].read_text(), encoding="utf-8")
    assert len(read_coco(*files, STRICT).images) == 3


def test_one_file_under_two_ids_is_noted(write_coco):
    annotations = read_coco(*write_coco(content([{}], images=["1.png", "2.png", "1.png"])), STRICT)
    assert "1.png: is there under 2 ids: kept" in annotations.problems[0]


@pytest.mark.parametrize(
    "root",
    [
        {"id": 0, "name": "proj", "supercategory": "none"},
        {"id": 9, "name": "proj", "supercategory": "none"},
        {"id": 0, "name": "helmet", "supercategory": "none"},  # of the same name as a class
        {"id": 5, "name": "background"},
    ],
    ids=str,
)
def test_a_category_above_the_classes_or_for_none_is_left_out(write_coco, root):
    helmet = {"id": 1, "name": "helmet ", "supercategory": "proj"}
    annotations = read_coco(*write_coco(content([{}], [root, helmet])), STRICT)
    assert (annotations.classes, annotations.category_ids) == (("helmet",), (1,))
    assert f"(id {root['id']}): left out" in annotations.problems[0]


def test_a_category_with_id_0_that_has_objects_is_a_class(write_coco):
    categories = [{"id": 0, "name": "proj", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "proj"}]
    annotations = read_coco(*write_coco(content([{"category_id": 0}], categories)), STRICT)
    assert (annotations.classes, annotations.category_ids) == (("proj", "cat"), (0, 1))


def test_names_that_differ_by_case_are_kept_apart_with_a_word_and_equal_ones_are_one_class(write_coco, caplog):
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "Cat"}, {"id": 3, "name": "cat "}]
    annotations = read_coco(*write_coco(content([{}, {"category_id": 3, "bbox": [1, 1, 9, 9]}], categories)))
    assert annotations.classes == ("cat", "Cat")
    assert annotations.images[0].labels.tolist() == [1, 1]
    assert "class names that differ by case only" in caplog.text


def test_warnings_are_of_the_first_process_only(write_coco, caplog, monkeypatch):
    monkeypatch.setattr("engine.log.rank", lambda: 1)
    with caplog.at_level(logging.WARNING):
        assert read_coco(*write_coco(content([{"bbox": [5, 5, 0, 0]}]))).problems
    assert not caplog.records
