from collections import Counter
from pathlib import Path

import pytest
from detection_files import kitti_line

from detection.data.assemble import ReadOptions
from detection.data.kitti import read_kitti
from detection.data.records import IGNORE_LABEL
from odebackbones.errors import InputError

CAR = kitti_line("Car", (1.5, 2.0, 10.0, 20.0))
DONT_CARE = "DontCare -1 -1 -10 3.00 4.00 8.00 9.00 -1 -1 -1 -1000 -1000 -1000 -10"


def test_labels_boxes_and_frame_numbers_are_read(write_kitti):
    root = write_kitti({"000012": [CAR, "", kitti_line("Cyclist", (0, 0, 4, 5)) + " 0.97"], "000003": []})
    annotations = read_kitti(root, options=ReadOptions(strict=True))
    assert annotations.classes == ("Car", "Cyclist")
    assert annotations.category_ids == (1, 2)
    empty, record = annotations.images
    assert (empty.image_id, empty.boxes.shape) == (3, (0, 4))
    assert (record.image_id, record.labels.tolist()) == (12, [1, 2])
    assert record.boxes.tolist() == [[1.5, 2, 10, 20], [0, 0, 4, 5]]
    assert record.area.tolist() == [153, 20]


def test_dont_care_is_a_crowd_region_of_no_class(write_kitti):
    annotations = read_kitti(write_kitti({"000000": [CAR, DONT_CARE]}), options=ReadOptions(strict=True))
    record = annotations.images[0]
    assert annotations.classes == ("Car",)
    assert record.labels.tolist() == [1, IGNORE_LABEL]
    assert record.crowd.tolist() == [False, True]
    assert record.boxes[1].tolist() == [3, 4, 8, 9]


def test_a_frames_file_picks_the_frames_in_its_order(write_kitti, tmp_path):
    root = write_kitti({"000001": [CAR], "000002": [CAR], "000003": [CAR]})
    frames = tmp_path / "val.txt"
    frames.write_text("000003\n000001\n")
    assert [record.image_id for record in read_kitti(root, frames).images] == [3, 1]


def test_frames_without_numbers_are_counted(write_kitti):
    assert [record.image_id for record in read_kitti(write_kitti({"a": [CAR], "7": [CAR]})).images] == [1, 2]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (" ".join(CAR.split()[:14]), r"expected a class and 14 numbers .*, got 1 word\(s\) and 13 numbers"),
        (CAR + " 1 2", r"expected a class and 14 numbers .*, got 1 word\(s\) and 16 numbers"),
        (kitti_line("Car", ("nan", 1, 2, 3)), r"expected a class and 14 numbers .*, got 5 word\(s\) and 10 numbers"),
        (kitti_line("Car", ("x", 1, 2, 3)), r"expected a class and 14 numbers .*, got 5 word\(s\) and 10 numbers"),
        (CAR.replace("Car ", ""), r"expected a class and 14 numbers .*, got 0 word\(s\)"),
        (CAR.replace("Car", "Car 2"), "truncated is 2, expected -1 to 1; are columns shifted"),
    ],
)
def test_a_bad_line_is_left_out_or_refused_by_file_and_line_when_strict(write_kitti, line, says):
    root = write_kitti({"000000": [CAR, line]})
    with pytest.raises(InputError, match=rf"000000\.txt:2: {says}"):
        read_kitti(root, options=ReadOptions(strict=True))
    annotations = read_kitti(root)
    assert annotations.images[0].boxes.tolist() == [[1.5, 2, 10, 20]]
    assert "000000.txt:2: " in annotations.problems[0]


def test_a_class_of_two_words_shifts_no_columns(write_kitti):
    lines = [CAR.replace("Car", "Person sitting"), CAR.replace("Car", "Person sitting") + " 0.9"]
    annotations = read_kitti(write_kitti({"000000": lines}), options=ReadOptions(strict=True))
    assert annotations.classes == ("Person sitting",)
    assert annotations.images[0].boxes.tolist() == [[1.5, 2, 10, 20]] * 2


def test_bad_boxes_and_missing_images_are_repaired_or_refused_when_strict(write_kitti):
    root = write_kitti({"000000": [kitti_line("Car", (5, 5, 5, 9)), CAR], "000001": [CAR]})
    (root / "image_2/000001.png").unlink()
    annotations = read_kitti(root)
    assert [record.boxes.tolist() for record in annotations.images] == [[[1.5, 2, 10, 20]]]
    assert ["such image" in annotations.problems[0], "zero area" in annotations.problems[1]] == [True, True]
    with pytest.raises(InputError, match=r"000000\.txt:1: .* zero area|000001.* no such image"):
        read_kitti(root, options=ReadOptions(strict=True))


def test_frames_without_a_label_file_have_no_objects(write_kitti, tmp_path):
    root = write_kitti({"000000": [CAR], "000001": [CAR]})
    (root / "label_2/000001.txt").unlink()
    (tmp_path / "val.txt").write_text("# frames\n000000\n000001\n")
    annotations = read_kitti(root, tmp_path / "val.txt")
    assert [len(record.labels) for record in annotations.images] == [1, 0]
    assert "000001.txt: no such file: no objects" in annotations.problems[0]
    with pytest.raises(InputError, match=r"000001\.txt: no such file"):
        read_kitti(root, tmp_path / "val.txt", ReadOptions(strict=True))


def test_missing_folders_and_repeated_numbers_are_refused(write_kitti, tmp_path):
    with pytest.raises(InputError, match="label_2: no such folder"):
        read_kitti(tmp_path / "none")
    root = write_kitti({"1": [CAR], "01": [CAR]})
    with pytest.raises(InputError, match="image ids must be unique, got twice: 1"):
        read_kitti(root)
    with pytest.raises(InputError, match=r"none\.txt: no such file"):
        read_kitti(root, tmp_path / "none.txt")


@pytest.mark.shared_data
def test_kitti_object_is_read_whole(shared_data: Path):
    annotations = read_kitti(shared_data / "kitti_object/training", options=ReadOptions(strict=True))
    names = {IGNORE_LABEL: "DontCare", **dict(enumerate(annotations.classes, start=1))}
    counts = Counter(names[label] for record in annotations.images for label in record.labels.tolist())
    assert counts == {"Car": 29, "Pedestrian": 3, "Cyclist": 2, "Truck": 1, "Misc": 1, "DontCare": 29}
    assert len(annotations.images) == 11
    assert {(record.width, record.height) for record in annotations.images} >= {(1242, 375)}
