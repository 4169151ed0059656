"""What users' tools write: each kind of data that was read wrongly without a word, or refused though it can be read."""

import json

import numpy as np
import pytest
from coco_content import CATEGORIES, STRICT, content
from detection_files import HEIGHT, WIDTH, write_image
from PIL import Image

from detection.data.assemble import ReadOptions
from detection.data.check import crowding_notes, describe, require_objects, without_thin_images
from detection.data.coco import read_coco
from detection.data.dataset import DetectionDataset
from engine.images.check import warn_of_common_images
from odebackbones.errors import InputError


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
