"""Values of COCO files that are read with all their digits, repaired, or refused: ids, names, polygons, sizes."""

import logging

import pytest
from coco_content import STRICT, content
from detection_files import HEIGHT, WIDTH, write_image
from test_boxes_of_other_tools import RUNS, boxes

from detection.data.coco import read_coco
from detection.data.image_names import ImageFolder, read_names
from detection.data.problems import ProblemLog
from odebackbones.errors import InputError

TWO = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]


# Ids


def test_ids_of_64_bits_keep_all_their_digits(write_coco):
    first = 2**53 + 1
    data = content([{"image_id": first + 2}])
    for i, image in enumerate(data["images"]):
        image["id"] = first + i if i else str(first + i)
    annotations = read_coco(*write_coco(data), STRICT)
    assert [record.image_id for record in annotations.images] == [first, first + 1, first + 2]
    assert boxes(annotations) == [[], [], [[4, 5, 24, 15]]]


@pytest.mark.parametrize(("key", "value"), [("image_id", [1]), ("image_id", {"$oid": "1"}), ("category_id", [1, 2])])
def test_an_id_that_is_no_word_or_number_leaves_its_annotation_out(write_coco, key, value):
    annotations = read_coco(*write_coco(content([{key: value}, {}])))
    assert boxes(annotations)[0] == [[4, 5, 24, 15]]
    assert f"'{key}' must be an integer" in annotations.problems[0]


@pytest.mark.parametrize(("used", "shift"), [((0, 1), 1), ((2, 3), -1)])
def test_category_ids_that_are_shifted_by_one_are_refused(write_coco, used, shift):
    annotations = [{"category_id": key} for key in used]
    with pytest.raises(InputError, match=rf"'categories' lists 1, 2: they seem shifted by {shift}; correct one"):
        read_coco(*write_coco(content(annotations, TWO)))


@pytest.mark.parametrize("used", [(0, 1, 2, 3), (0, 1), (0,)])
def test_a_category_that_is_not_listed_is_no_shift(write_coco, used):
    annotations = [{"category_id": key} for key in used]
    found = read_coco(*write_coco(content(annotations, [*TWO, {"id": 3, "name": "blue"}])))
    assert [len(objects) for objects in boxes(found)] == [len(used) - 1, 0, 0]


# Names


def test_categories_of_one_name_are_one_class_with_a_word(write_coco, caplog):
    categories = [{"id": 1, "name": "café"}, {"id": 2, "name": "cafe\u0301 "}]
    annotations = read_coco(*write_coco(content([{}, {"category_id": 2}], categories)))
    assert annotations.classes == ("café",)
    assert annotations.images[0].labels.tolist() == [1, 1]
    assert "1 categories of a name that another has (taken for one class)" in caplog.text


@pytest.mark.parametrize("name", [None, "", "  "])
def test_a_category_without_a_name_is_refused(write_coco, name):
    with pytest.raises(InputError, match=r"category 1: has no name, but .*; name it"):
        read_coco(*write_coco(content([{}], [{"id": 1, "name": name}])))


# Polygons, run lengths, areas


@pytest.mark.parametrize(
    "segmentation",
    [[[1, 2, 3, 4]], [[1, 2, float("nan"), 4, 5, 6]], {**RUNS, "counts": [10, 20]}],
    ids=["two points", "NaN", "runs of another image"],
)
def test_a_segmentation_that_encloses_nothing_is_no_box(write_coco, segmentation):
    annotations = read_coco(*write_coco(content([{"segmentation": segmentation, "bbox": None}, {}])))
    assert boxes(annotations)[0] == [[4, 5, 24, 15]]
    assert "a box must be 4 numbers, got None" in annotations.problems[0]


def test_few_polygons_do_not_refuse_the_boxes(write_coco):
    """Each is only noted; nothing can be told of a convention."""
    annotations = read_coco(*write_coco(content([{"segmentation": [[30, 20, 39, 20, 39, 29]]}, {}])))
    assert len(boxes(annotations)[0]) == 2
    assert "1 of 1 boxes" in annotations.problems[0]


def test_boxes_whose_areas_are_theirs_as_corners_are_refused(write_coco):
    corners = [{"bbox": [i, 2, i + 9, 10], "area": 72} for i in range(1, 5)]
    with pytest.raises(InputError, match="100 % of the 4 boxes have an area that is theirs if read as x1, y1, x2, y2"):
        read_coco(*write_coco(content(corners)))
    right = [{"bbox": [i, 2, 9, 8], "area": 72} for i in range(1, 5)]
    assert len(read_coco(*write_coco(content(right)), STRICT).images[0].boxes) == 4


# Sizes


def of_size(write_coco, recorded, *objects):
    """A data set whose first image is recorded with another size."""
    data = content(objects)
    data["images"][0] |= dict(zip(("width", "height"), recorded, strict=True))
    return read_coco(*write_coco(data))


def test_boxes_of_resized_images_are_scaled(write_coco):
    annotations = of_size(write_coco, (4 * WIDTH, 4 * HEIGHT), {"bbox": [8, 20, 40, 40]})
    assert boxes(annotations)[0] == [[2, 5, 12, 15]]
    assert "boxes scaled to the file's size" in annotations.problems[0]


def test_boxes_that_do_not_fit_the_file_tell_of_stretching(write_coco):
    annotations = of_size(write_coco, (2 * WIDTH, HEIGHT), {"bbox": [8, 5, 60, 10]})
    assert boxes(annotations)[0] == [[4, 5, 34, 15]]


@pytest.mark.parametrize("recorded", [(1, 1), (2 * WIDTH, HEIGHT)], ids=["too small", "of other proportions"])
def test_a_recorded_size_that_cannot_be_is_not_scaled_by(write_coco, recorded):
    annotations = of_size(write_coco, recorded, {})
    assert boxes(annotations)[0] == [[4, 5, 24, 15]]
    assert "read with the file's size" in annotations.problems[0]


# Lists of names


def test_images_of_one_name_in_two_folders_stay_two(tmp_path, caplog):
    for name in ("a/1.JPG", "b/1.png", "b/2.png"):
        write_image(tmp_path / name)
    (tmp_path / "list.txt").write_text("a/1.JPG\nb\\1.png\nb/2.png\n")
    with caplog.at_level(logging.WARNING):
        names = read_names(tmp_path / "list.txt", ProblemLog("list", strict=True))
    assert names == ["a/1", "b/1", "2"]
    assert [ImageFolder(tmp_path).of_stem(name).is_file() for name in names[:2]] == [True, True]
    assert not caplog.text
