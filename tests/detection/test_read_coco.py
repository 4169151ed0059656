import json
import logging
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from detection_files import HEIGHT, WIDTH, truncate, write_image

from detection.data.assemble import ReadOptions
from detection.data.coco import read_coco
from odebackbones.errors import InputError


def test_categories_become_contiguous_labels_by_ascending_id(coco_content, write_coco):
    annotations = read_coco(*write_coco(coco_content))
    assert annotations.classes == ("car", "cat", "brush")
    assert annotations.category_ids == (3, 17, 90)
    assert [record.labels.tolist() for record in annotations.images] == [[3, 1], [], [2]]
    assert annotations.problems == ()


def test_record_holds_corners_crowds_and_areas(coco_content, write_coco):
    record = read_coco(*write_coco(coco_content), ReadOptions(strict=True)).images[0]
    assert (record.image_id, record.width, record.height) == (5, WIDTH, HEIGHT)
    assert record.boxes.tolist() == [[1, 2, 11, 22], [4, 5, 10, 12]]
    assert record.crowd.tolist() == [False, True]
    assert record.area.tolist() == [150.5, 42.0]
    assert [getattr(record, name).dtype for name in ("boxes", "labels", "crowd", "area")] == [
        np.float32,
        np.int64,
        np.bool_,
        np.float32,
    ]


def test_images_without_annotations_stay_with_empty_arrays(coco_content, write_coco):
    record = read_coco(*write_coco(coco_content)).images[1]
    assert record.image_id == 7
    assert record.boxes.shape == (0, 4)
    assert record.labels.shape == record.crowd.shape == record.area.shape == (0,)


def test_given_classes_set_the_labels_and_unlisted_ones_get_new_ids(coco_content, write_coco):
    annotations = read_coco(*write_coco(coco_content), ReadOptions(classes=["brush", "dog", "cat", "car"]))
    assert annotations.category_ids == (90, 91, 17, 3)
    assert annotations.images[0].labels.tolist() == [1, 4]


def test_objects_of_a_class_that_the_training_set_lacks_are_refused_with_the_near_names_or_left_out(
    coco_content, write_coco
):
    files, classes = write_coco(coco_content), ["car", "cats", "brush"]
    with pytest.raises(InputError, match=r"annotation 3: unknown class 'cat'; did you mean 'cats'"):
        read_coco(*files, ReadOptions(strict=True, classes=classes))
    annotations = read_coco(*files, ReadOptions(classes=classes))
    assert [record.labels.tolist() for record in annotations.images] == [[3, 1], [], []]
    assert "unknown class 'cat'" in annotations.problems[0]


def test_chosen_classes_are_a_subset_also_of_a_strict_reading(coco_content, write_coco):
    annotations = read_coco(*write_coco(coco_content), ReadOptions(strict=True, classes=["cat"], chosen=True))
    assert (annotations.classes, annotations.category_ids) == (("cat",), (17,))
    assert [record.labels.tolist() for record in annotations.images] == [[], [], [1]]


@pytest.mark.parametrize(
    ("bbox", "says", "left"),
    [
        ([5, 5, 0, 10], "zero area", None),
        ([5, 5, 10, 0], "zero area", None),
        ([5, 5, -3, 10], "negative width or height", None),
        ([50, 5, 10, 10], "lies outside the 40x30", None),
        ([-20, 5, 10, 10], "lies outside the 40x30", None),
        ([5, 30.5, 10, 10], "lies outside the 40x30", None),
        ([-5, -6, 20, 20], "lies partly outside the 40x30", [0, 0, 15, 14]),
        ([30, 20, 20, 20], "lies partly outside the 40x30", [30, 20, 40, 30]),
    ],
)
def test_bad_boxes_are_repaired_and_recorded_or_refused_when_strict(coco_content, write_coco, bbox, says, left):
    coco_content["annotations"][2] |= {"bbox": bbox, "area": None}
    files = write_coco(coco_content)
    annotations = read_coco(*files)
    assert annotations.images[2].boxes.tolist() == ([] if left is None else [left])
    assert len(annotations.images[2].labels) == len(annotations.images[2].area) == (left is not None)
    (problem,) = annotations.problems
    assert "instances.json: annotation 3" in problem
    assert says in problem
    with pytest.raises(InputError, match=rf"annotation 3.*{says}.*--data.strict false"):
        read_coco(*files, ReadOptions(strict=True))


def test_a_box_that_passes_the_border_by_a_pixel_is_clipped_without_a_word(coco_content, write_coco):
    coco_content["annotations"][2]["bbox"] = [-1, 0, 42, 30.004]
    annotations = read_coco(*write_coco(coco_content), ReadOptions(strict=True))
    assert annotations.images[2].boxes.tolist() == [[0, 0, 40, 30]]


def test_ids_of_annotations_do_not_matter_and_exact_copies_are_dropped(coco_content, write_coco):
    for annotation in coco_content["annotations"]:
        annotation["id"] = 1
    annotations = read_coco(*write_coco(coco_content), ReadOptions(strict=True))
    assert [record.labels.tolist() for record in annotations.images] == [[3, 1], [], [2]]
    coco_content["annotations"].append({**coco_content["annotations"][2], "id": 7})
    files = write_coco(coco_content)
    assert [record.labels.tolist() for record in read_coco(*files).images] == [[3, 1], [], [2]]
    with pytest.raises(InputError, match="annotation 7: a copy of another"):
        read_coco(*files, ReadOptions(strict=True))


def test_missing_image_is_left_out(coco_content, write_coco):
    files = write_coco(coco_content)
    (files[1] / "7.png").unlink()
    annotations = read_coco(*files)
    assert [record.image_id for record in annotations.images] == [5, 9]
    assert annotations.problems[0].endswith("7.png: image file is missing: left out")
    with pytest.raises(InputError, match=r"7\.png: image file is missing"):
        read_coco(*files, ReadOptions(strict=True))


def test_truncated_image_is_found_by_verify_only(coco_content, write_coco):
    files = write_coco(coco_content)
    truncate(files[1] / "7.png")
    assert len(read_coco(*files, ReadOptions(strict=True, verify=False)).images) == 3
    annotations = read_coco(*files, ReadOptions(verify=True))
    assert [record.image_id for record in annotations.images] == [5, 9]
    assert "7.png: image cannot be read" in annotations.problems[0]
    with pytest.raises(InputError, match=r"7\.png: image cannot be read"):
        read_coco(*files, ReadOptions(strict=True, verify=True))


def test_file_that_is_no_image_is_found_by_its_header(coco_content, write_coco):
    files = write_coco(coco_content)
    (files[1] / "7.png").write_text("<html>404</html>")
    assert [record.image_id for record in read_coco(*files, ReadOptions(verify=False)).images] == [5, 9]


def test_boxes_of_a_resized_image_are_scaled(coco_content, write_coco):
    coco_content["annotations"][2]["bbox"] = [4, 3, 20, 15]
    files = write_coco(coco_content)
    write_image(files[1] / "9.png", width=20, height=10)
    annotations = read_coco(*files)
    record = annotations.images[2]
    assert (record.width, record.height, record.boxes.tolist()) == (20, 10, [[2, 1, 12, 6]])
    assert "9.png: is 20x10, recorded as 40x30: boxes scaled" in annotations.problems[0]
    with pytest.raises(InputError, match="recorded as 40x30"):
        read_coco(*files, ReadOptions(strict=True))


def test_recorded_sides_that_are_exchanged_or_a_pixel_off_leave_the_boxes_as_they_are(coco_content, write_coco):
    coco_content["images"][0] |= {"width": HEIGHT, "height": WIDTH}
    coco_content["images"][2] |= {"width": WIDTH + 1, "height": HEIGHT - 1}
    annotations = read_coco(*write_coco(coco_content))
    assert annotations.images[0].boxes.tolist() == [[1, 2, 11, 22], [4, 5, 10, 12]]
    assert annotations.images[2].boxes.tolist() == [[0, 0, 40, 30]]
    (problem,) = annotations.problems
    assert "is 40x30, recorded as 30x40: read with the file's size" in problem


def test_a_warning_a_kind_gives_its_count_and_one_example(coco_content, write_coco, caplog):
    for annotation in coco_content["annotations"]:
        annotation["bbox"] = [5, 5, 0, 0]
    coco_content["annotations"].append({**coco_content["annotations"][0], "area": 3, "id": 4})
    coco_content["images"].append({"id": 10, "file_name": "9.png"})
    with caplog.at_level(logging.WARNING):
        assert len(read_coco(*write_coco(coco_content)).problems) == 5
    warned = sorted(record.message.split(": ", 1)[1] for record in caplog.records)
    assert len(warned) == 2
    assert warned[0].startswith("1 image files that are there more than once (kept), such as ")
    assert warned[1] == ("4 boxes without an area (dropped), such as annotation 1: box (5, 5, 5, 5) has zero area")


def _change(path: tuple, value: object):
    """Return an edit that sets (or, for ..., deletes) the entry at ``path``."""

    def edit(content: dict) -> None:
        for key in path[:-1]:
            content = content[key]
        if value is ...:
            del content[path[-1]]
        else:
            content[path[-1]] = value

    return edit


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_change(("annotations",), ...), r"no COCO annotations, it lacks the list\(s\) annotations"),
        (_change(("images", 1, "id"), 5), "image id 5 occurs twice"),
        (_change(("images", 1, "id"), 1.5), "image 1: 'id' must be an integer, got 1.5"),
        (_change(("categories", 1, "id"), 90), "two categories have the same id"),
    ],
)
def test_content_that_cannot_be_repaired_is_always_refused(coco_content, write_coco, edit, says, strict):
    files = write_coco(coco_content)
    edit(coco_content)
    files[0].write_text(json.dumps(coco_content))
    with pytest.raises(InputError, match=rf"instances\.json: {says}"):
        read_coco(*files, ReadOptions(strict=strict))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_change(("annotations", 2, "category_id"), 4), "annotation 3: category_id 4 is not in 'categories'"),
        (_change(("annotations", 2, "image_id"), 6), "annotation 3: image_id 6 is not in 'images'"),
        (_change(("annotations", 2, "bbox"), [1, 2, 3]), r"annotation 3: a box must be 4 numbers, got \[1, 2, 3\]"),
        (_change(("annotations", 2, "bbox"), "1234"), "annotation 3: a box must be 4 numbers, got '1234'"),
        (_change(("annotations", 2, "bbox"), {"x": 1}), "annotation 3: a box must be 4 numbers, got {'x': 1}"),
        (_change(("annotations", 2, "bbox"), [1, 2, 3, math.nan]), "annotation 3: expected a finite number, got nan"),
        (_change(("annotations", 2, "bbox"), [1, 2, 3, math.inf]), "annotation 3: expected a finite number, got inf"),
        (_change(("annotations", 2, "bbox"), [1, 2, 3, None]), "annotation 3: expected a finite number, got None"),
        (_change(("annotations", 2, "bbox"), ...), "annotation 3: lacks 'bbox'"),
        (_change(("annotations", 2, "iscrowd"), "maybe"), "annotation 3: iscrowd: expected 0 or 1, got 'maybe'"),
        (_change(("annotations", 2), 3), "annotation 2: lacks 'image_id'"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_left_out_or_refused_when_strict(coco_content, write_coco, edit, says):
    files = write_coco(coco_content)
    edit(coco_content)
    files[0].write_text(json.dumps(coco_content))
    with pytest.raises(InputError, match=rf"instances\.json: {says}"):
        read_coco(*files, ReadOptions(strict=True))
    annotations = read_coco(*files)
    assert [record.labels.tolist() for record in annotations.images] == [[3, 1], [], []]
    (problem,) = annotations.problems
    assert re.search(says, problem) and problem.endswith(": left out")


def test_data_without_image_or_category_is_refused(coco_content, write_coco):
    with pytest.raises(InputError, match="no category"):
        read_coco(*write_coco({**coco_content, "annotations": [], "categories": []}))
    with pytest.raises(InputError, match="no image is left; check"):
        read_coco(*write_coco({**coco_content, "annotations": [], "images": []}))


def test_no_image_left_names_the_first_problem(coco_content, write_coco):
    files = write_coco(coco_content)
    for image in files[1].iterdir():
        image.unlink()
    with pytest.raises(InputError, match=r"no image is left of 3 problem\(s\), first: .*5\.png: image file is missing"):
        read_coco(*files)


def test_missing_files_and_other_files_are_refused(tmp_path, coco_content, write_coco):
    file, folder = write_coco(coco_content)
    with pytest.raises(InputError, match=r"none\.json: cannot be read \(No such file"):
        read_coco(tmp_path / "none.json", folder)
    with pytest.raises(InputError, match="none: no such image folder"):
        read_coco(file, tmp_path / "none")
    file.write_text('{"images": [')
    with pytest.raises(InputError, match=r"instances\.json: not a JSON file"):
        read_coco(file, folder)
    file.write_text("[]")
    with pytest.raises(InputError, match=r"lacks the list\(s\) images, annotations, categories"):
        read_coco(file, folder)


@pytest.mark.shared_data
def test_coco128_is_read_whole(shared_data: Path):
    root = shared_data / "coco128"
    annotations = read_coco(
        root / "annotations/instances_train2017.json", root / "images/train2017", ReadOptions(strict=True, verify=True)
    )
    labels = Counter(np.concatenate([record.labels for record in annotations.images]).tolist())
    assert (len(annotations.images), labels.total(), len(labels)) == (128, 939, 71)
    assert sum(int(record.crowd.sum()) for record in annotations.images) == 10
    assert (len(annotations.classes), max(annotations.category_ids)) == (80, 90)
    assert sum(len(record.labels) == 0 for record in annotations.images) == 2
    source = json.loads((root / "annotations/instances_train2017.json").read_text())
    assert {entry["id"]: entry["name"] for entry in source["categories"]} == dict(
        zip(annotations.category_ids, annotations.classes, strict=True)
    )
