"""What users' tools write: each kind of data that was read wrongly without a word, or refused though it can be read."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from detection_files import HEIGHT, WIDTH, write_image
from PIL import Image

from detection.data.assemble import ReadOptions
from detection.data.check import crowding_notes, describe, require_objects, without_thin_images
from detection.data.coco import read_coco
from detection.data.dataset import DetectionDataset
from engine.images.check import warn_of_common_images
from odebackbones.errors import InputError

STRICT = ReadOptions(strict=True)
CATEGORIES = [{"id": 1, "name": "cat"}]


def content(annotations=(), categories=CATEGORIES, images=("1.png", "2.png", "3.png"), **image):
    size = {"width": WIDTH, "height": HEIGHT}
    return {
        "images": [{"id": i, "file_name": name, **size, **image} for i, name in enumerate(images, start=1)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 5, 20, 10], **a} for a in annotations],
        "categories": list(categories),
    }


def boxes(annotations):
    return [record.boxes.tolist() for record in annotations.images]


# Crowds, and sets without objects


@pytest.mark.parametrize("flag", [1, "1", True, 1.0, "true"])
def test_a_training_set_of_crowds_only_is_refused(write_coco, flag):
    annotations = read_coco(*write_coco(content([{"iscrowd": flag}])))
    with pytest.raises(
        InputError, match=r"all 1 objects are crowds .* which are not trained on: set iscrowd or difficult to 0"
    ):
        require_objects(annotations)
    (note,) = crowding_notes(annotations, detections=100)
    assert note == "No accuracy: the validation set has no objects (all 1 are crowds, which are not counted)."


@pytest.mark.parametrize("flag", [0, "0", False, None, 0.0, "false"])
def test_no_crowd_is_one_however_it_is_written(write_coco, flag):
    annotations = read_coco(*write_coco(content([{"iscrowd": flag}])), STRICT)
    assert not annotations.images[0].crowd.any()
    require_objects(annotations)


def test_a_set_of_many_crowds_and_a_class_without_objects_are_warned_of(write_coco, caplog):
    crowds = [{"iscrowd": 1, "bbox": [i, 5, 20, 10]} for i in range(3)]
    categories = [*CATEGORIES, {"id": 2, "name": "dog"}]
    require_objects(read_coco(*write_coco(content([*crowds, {}], categories))))
    assert "3 of 4 objects are crowds" in caplog.text
    assert "no object of the classes dog" in caplog.text


def test_a_training_set_without_any_object_is_refused(write_coco):
    with pytest.raises(InputError, match=r"instances.json: no objects; correct the annotations"):
        require_objects(read_coco(*write_coco(content())))


def test_a_line_tells_what_a_split_holds(write_coco):
    annotations = read_coco(*write_coco(content([{}, {"image_id": 2, "bbox": [0, 0, 2, 3]}, {"iscrowd": 1}])))
    assert describe("train", annotations) == (
        "train: 3 images (1 without objects), 2 objects (cat 2), 1 crowds (not trained on), boxes of 2x3 to 20x10 px"
    )


def test_more_objects_than_detections_are_noted(write_coco):
    annotations = read_coco(*write_coco(content([{"bbox": [i, 5, 20, 10]} for i in range(5)])))
    (note,) = crowding_notes(annotations, detections=4)
    assert note.startswith("1 of 3 images have more objects (up to 5) than detections are kept (4)")
    assert crowding_notes(annotations, detections=5) == ()


def test_images_of_which_resizing_leaves_no_pixel_are_left_out(write_coco, caplog):
    files = write_coco(content([{}, {"image_id": 2, "bbox": [0, 0, 9, 2]}]))
    write_image(files[1] / "2.png", width=400, height=2)
    data = json.loads(files[0].read_text())
    data["images"][1] |= {"width": 400, "height": 2}
    files[0].write_text(json.dumps(data))
    annotations = read_coco(*files)
    kept = without_thin_images(annotations, size=(100, 160), strict=False)
    assert [record.image_id for record in kept.images] == [1, 3]
    assert "2.png: 400x2 px, too thin for sides of 100 to 160 px" in caplog.text and "left out" in kept.problems[-1]
    assert without_thin_images(annotations, size=(100, 250), strict=True) is annotations
    with pytest.raises(InputError, match=r"2\.png: 400x2 px, too thin .*; leave it out, or raise model.max_size"):
        without_thin_images(annotations, size=(100, 160), strict=True)


def test_images_that_are_in_both_splits_are_warned_of(write_coco, caplog):
    annotations = read_coco(*write_coco(content([{}])))
    warn_of_common_images(*[[record.path for record in annotations.images]] * 2)
    assert "3 of the 3 validation images are training images, too" in caplog.text


# Orientation


def sideways(path, orientation):
    """A picture whose left half is red as stored, 40 wide and 30 high, with an orientation."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "recorded", "exif", "turned"),
    [
        (6, (HEIGHT, WIDTH), "auto", True),  # boxes drawn on the image turned upright
        (6, (WIDTH, HEIGHT), "auto", False),  # boxes of the image as stored
        (6, None, "auto", True),
        (3, (WIDTH, HEIGHT), "auto", True),  # a half turn: the size tells nothing
        (6, (WIDTH, HEIGHT), "turn", True),
        (6, (HEIGHT, WIDTH), "ignore", False),
        (1, (WIDTH, HEIGHT), "turn", False),
    ],
)
def test_the_recorded_size_tells_whether_an_image_is_turned(write_coco, orientation, recorded, exif, turned, caplog):
    data = content([{"bbox": [2, 3, 10, 8]}], images=["1.jpg"])
    data["images"][0] |= (
        {"width": None, "height": None} if recorded is None else dict(zip(("width", "height"), recorded, strict=True))
    )
    files = write_coco(data)
    sideways(files[1] / "1.jpg", orientation)
    annotations = read_coco(*files, ReadOptions(exif=exif))
    image, _ = DetectionDataset(annotations, keep_crowds=True)[0]
    record = annotations.images[0]
    assert record.turned == turned and tuple(image.shape[1:]) == (record.height, record.width)
    red = image[0].float()
    if not turned:
        assert red[:, 0].mean() > 200 and red[:, -1].mean() < 50
    elif orientation == 6:  # a quarter turn to the right brings the left side to the top
        assert (record.width, record.height) == (HEIGHT, WIDTH)
        assert red[0].mean() > 200 and red[-1].mean() < 50
    else:
        assert red[:, 0].mean() < 50 and red[:, -1].mean() > 200
    told = orientation == 3 or (recorded is None and exif == "auto")
    assert ("images that EXIF data turn (turned upright; data.exif ignore" in caplog.text) == told


# Depth of color


def test_images_of_16_bits_are_scaled_and_others_refused_by_name(write_coco):
    files = write_coco(content([{}, {"image_id": 2}, {"image_id": 3}], images=["1.png", "2.tif", "3.tif"]))
    ramp = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    Image.fromarray(ramp.astype(np.uint16)).save(files[1] / "1.png")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(files[1] / "2.tif")
    Image.fromarray(ramp.astype(np.int32)).save(files[1] / "3.tif")
    annotations = read_coco(*files)
    assert [record.path.name for record in annotations.images] == ["1.png"]
    assert "32-bit floating-point numbers have no known range; convert it to 8 or 16 bits" in annotations.problems[0]
    assert "32-bit whole numbers have no known range" in annotations.problems[1]
    image, _ = DetectionDataset(annotations, keep_crowds=True)[0]
    assert np.abs(image[0].numpy() - ramp / 257).max() <= 0.502


def test_what_is_transparent_is_white(write_coco):
    files = write_coco(content([{}], images=["1.png"]))
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    pixels[..., 3] = np.where(np.arange(WIDTH) < 20, 0, 255)
    Image.fromarray(pixels).save(files[1] / "1.png")
    image, _ = DetectionDataset(read_coco(*files), keep_crowds=True)[0]
    assert (image[:, :, :20] == 255).all()
    assert np.array_equal(image[:, :, 20:].numpy(), pixels[:, 20:, :3].transpose(2, 0, 1))


# Areas, boxes, polygons


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


CORNERS = [{"bbox": [20 + i, 16, 36, 28]} for i in range(5)]


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


# Names and ids


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


# Categories


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
