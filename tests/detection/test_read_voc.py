from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from detection_files import truncate, voc_object, write_image

from detection.data.voc import read_voc
from odebackbones.errors import InputError

DOG = voc_object("dog", (1, 1, 40, 30))


def test_one_based_inclusive_pixels_become_zero_based_corners(write_voc):
    record = read_voc(write_voc({"a": DOG + voc_object("cat", (11, 6, 20, 7))}), "train", strict=True).images[0]
    assert record.boxes.tolist() == [[0, 0, 40, 30], [10, 5, 20, 7]]
    assert record.area.tolist() == [1200, 20]


def test_classes_are_discovered_in_order_of_name(write_voc):
    annotations = read_voc(write_voc({"b": DOG, "a": voc_object("cat", (5, 5, 9, 9)), "c": ""}), "train")
    assert annotations.classes == ("cat", "dog")
    assert annotations.category_ids == (1, 2)
    assert [(record.image_id, record.labels.tolist()) for record in annotations.images] == [(1, [2]), (2, [1]), (3, [])]


def test_difficult_objects_are_crowds_of_their_class(write_voc):
    record = read_voc(write_voc({"a": DOG + voc_object("dog", (5, 5, 9, 9), difficult=1)}), "train").images[0]
    assert record.crowd.tolist() == [False, True]
    assert record.labels.tolist() == [1, 1]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".JPG"])
def test_images_of_any_suffix_are_found(write_voc, suffix):
    assert read_voc(write_voc({"a": DOG}, suffix=suffix), "train").images[0].path.suffix == suffix


def test_flags_of_a_class_list_are_not_part_of_the_name(write_voc):
    root = write_voc({"a": DOG, "my dog 1": DOG})
    (root / "ImageSets/Main/dog_train.txt").write_text("a  1\nmy dog 1 -1\n\n")
    assert [record.path.stem for record in read_voc(root, "dog_train").images] == ["a", "my dog 1"]


@pytest.mark.parametrize(
    ("box", "says", "left"),
    [
        ((7, 7, 7, 9), "zero area", []),
        ((7, 9, 9, 9), "zero area", []),
        ((9, 7, 7, 9), "negative width or height", []),
        ((50, 7, 60, 9), "lies outside", []),
        ((21, 11, 60, 20), "partly outside", [[20, 10, 40, 20]]),
    ],
)
def test_bad_boxes_are_repaired_and_recorded_or_refused_when_strict(write_voc, box, says, left):
    root = write_voc({"a": voc_object("dog", box)})
    annotations = read_voc(root, "train")
    assert annotations.images[0].boxes.tolist() == left
    assert "a.xml: object 1" in annotations.problems[0]
    assert says in annotations.problems[0]
    with pytest.raises(InputError, match=says):
        read_voc(root, "train", strict=True)


def test_bad_image_files_are_left_out(write_voc):
    root = write_voc(dict.fromkeys("abcd", DOG), suffix=".png")
    (root / "JPEGImages/a.png").unlink()
    truncate(root / "JPEGImages/b.png")
    write_image(root / "JPEGImages/c.png", width=50, height=30)
    annotations = read_voc(root, "train", verify=True)
    assert [record.image_id for record in annotations.images] == [3, 4]
    assert annotations.images[0].width == 50
    assert len(annotations.problems) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<annotation><object>", "malformed XML"),
        ("<html></html>", "expected VOC's <annotation>, got <html>"),
        (f"<annotation>{DOG.replace('<name>dog</name>', '')}</annotation>", "object 1: lacks <name>"),
        ("<annotation><object><name>dog</name></object></annotation>", "object 1: lacks <bndbox>"),
        (f"<annotation>{voc_object('dog', ('nan', 1, 2, 3))}</annotation>", "object 1: expected a finite number"),
        (f"<annotation>{DOG.replace('<xmax>40</xmax>', '')}</annotation>", "object 1: expected a finite number"),
        ("<annotation><size><width>x</width></size></annotation>", "<size><width>: expected a finite number"),
    ],
)
def test_bad_annotation_files_are_refused_by_name(write_voc, content, says):
    root = write_voc({"a": DOG})
    (root / "Annotations/a.xml").write_text(content)
    with pytest.raises(InputError, match=rf"a\.xml: {says}"):
        read_voc(root, "train")


def test_missing_files_repeated_names_and_empty_sets_are_refused(write_voc):
    root = write_voc({"a": DOG})
    with pytest.raises(InputError, match=r"val\.txt: no such file"):
        read_voc(root, "val")
    for names, says in (("a\nb", r"b\.xml: cannot be read"), ("a\na", "listed more than once: a")):
        (root / "ImageSets/Main/val.txt").write_text(names)
        with pytest.raises(InputError, match=says):
            read_voc(root, "val")
    (root / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(InputError, match="no image is left"):
        read_voc(root, "val", classes=["dog"])
    (root / "Annotations/a.xml").write_text("<annotation/>")
    with pytest.raises(InputError, match="no category"):
        read_voc(root, "train")


def test_given_classes_that_lack_one_of_the_data_are_refused(write_voc):
    with pytest.raises(InputError, match=r"a\.xml: object 1: unknown class 'dog'; did you mean 'dogs'"):
        read_voc(write_voc({"a": DOG}), "train", classes=["bird", "dogs"])


@pytest.mark.shared_data
def test_bccd_is_read_whole_and_its_zero_area_boxes_are_reported(shared_data: Path):
    splits = [read_voc(shared_data / "bccd", name) for name in ("train", "val", "test")]
    assert [len(split.images) for split in splits] == [205, 87, 72]
    assert {split.classes for split in splits} == {("Platelets", "RBC", "WBC")}
    problems = [problem for split in splits for problem in split.problems]
    assert Counter(name for problem in problems for name in ("_00338.xml", "_00343.xml") if name in problem) == {
        "_00338.xml": 1,
        "_00343.xml": 1,
    }
    assert all("zero area" in problem for problem in problems)
    boxes = np.concatenate([record.boxes for split in splits for record in split.images])
    assert len(problems) + len(boxes) == 4888


@pytest.mark.shared_data
def test_a_strict_reading_of_bccd_stops_at_a_zero_area_box(shared_data: Path):
    with pytest.raises(InputError, match=r"BloodImage_003(38|43)\.xml: object \d+: .*zero area"):
        for name in ("train", "val", "test"):
            read_voc(shared_data / "bccd", name, strict=True, verify=False)
