import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from detection_files import truncate, voc_object, write_image

from detection.data.assemble import ReadOptions
from detection.data.voc import read_voc
from odebackbones.errors import InputError

DOG = voc_object("dog", (1, 1, 40, 30))


def test_one_based_inclusive_pixels_become_zero_based_corners(write_voc):
    record = read_voc(
        write_voc({"a": DOG + voc_object("cat", (11, 6, 20, 7))}), "train", ReadOptions(strict=True)
    ).images[0]
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


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".JPG", ".JPeG", ".bmp", ".webp", ".tif", ".gif"])
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
        read_voc(root, "train", ReadOptions(strict=True))


def test_bad_image_files_are_left_out(write_voc):
    root = write_voc(dict.fromkeys("abcd", DOG), suffix=".png")
    (root / "JPEGImages/a.png").unlink()
    truncate(root / "JPEGImages/b.png")
    write_image(root / "JPEGImages/c.png", width=50, height=30)
    annotations = read_voc(root, "train", ReadOptions(verify=True))
    assert [record.image_id for record in annotations.images] == [3, 4]
    assert annotations.images[0].width == 50
    assert len(annotations.problems) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<annotation><object>", "malformed XML"),
        ("<html></html>", "expected VOC's <annotation>, got <html>"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "malformed XML .*klingon"),
    ],
)
def test_bad_annotation_files_are_left_out_or_refused_by_name_when_strict(write_voc, content, says):
    root = write_voc({"a": DOG, "b": DOG})
    (root / "Annotations/a.xml").write_text(content)
    with pytest.raises(InputError, match=rf"a\.xml: {says}"):
        read_voc(root, "train", ReadOptions(strict=True))
    assert [record.path.stem for record in read_voc(root, "train").images] == ["b"]
    (root / "ImageSets/Main/train.txt").write_text("a")
    with pytest.raises(InputError, match=rf"no category \(1 problem\(s\), first: .*a\.xml: {says}"):
        read_voc(root, "train")


@pytest.mark.parametrize(
    ("element", "says"),
    [
        (DOG.replace("<name>dog</name>", ""), "object 2: lacks <name>"),
        ("<object><name>dog</name></object>", "object 2: lacks <bndbox>"),
        ("<object><name>dog</name><robndbox><cx>1</cx></robndbox></object>", "object 2: lacks <bndbox>"),
        (voc_object("dog", ("nan", 1, 2, 3)), "object 2: expected a finite number"),
        (DOG.replace("<xmax>40</xmax>", ""), "object 2: expected a finite number"),
        (voc_object("dog", (1, 1, 9, 9), difficult=2), "object 2: <difficult>: expected 0 or 1, got '2'"),
    ],
)
def test_an_object_that_cannot_be_read_is_left_out_or_refused_when_strict(write_voc, element, says):
    root = write_voc({"a": DOG + element})
    annotations = read_voc(root, "train")
    assert annotations.images[0].boxes.tolist() == [[0, 0, 40, 30]]
    assert says in annotations.problems[0]
    with pytest.raises(InputError, match=says):
        read_voc(root, "train", ReadOptions(strict=True))


@pytest.mark.parametrize("size", ["<size><width>0</width><height>0</height></size>", "<size/>", ""])
def test_a_size_that_cannot_be_is_none(write_voc, size):
    root = write_voc({"a": DOG})
    (root / "Annotations/a.xml").write_text(f"<annotation>{size}{DOG}</annotation>")
    assert read_voc(root, "train", ReadOptions(strict=True)).images[0].width == 40


@pytest.mark.parametrize("encoding", ["gb2312", "utf-16", "utf8", "iso-8859-1"])
def test_annotation_files_are_read_in_the_encoding_that_they_declare(write_voc, encoding):
    root, name = write_voc({"a": DOG}), "Löwe" if encoding == "iso-8859-1" else "猫"
    text = f"<?xml version='1.0' encoding='{encoding}'?><annotation>{voc_object(name, (1, 1, 9, 9))}</annotation>"
    (root / "Annotations/a.xml").write_bytes(text.encode(encoding))
    assert read_voc(root, "train").classes == (name,)


def test_images_without_annotations_have_no_objects_and_names_listed_twice_are_taken_once(write_voc):
    root = write_voc({"a": DOG})
    write_image(root / "JPEGImages/b.jpg")
    lists = root / "ImageSets/Main/val.txt"
    with pytest.raises(InputError, match=r"val\.txt: no such file; .* nor is there a folder .*val of images and XML"):
        read_voc(root, "val")
    for names, says in (("a\nb", r"b\.xml: no such file"), ("a\nb\na", "'a' is listed 2 times")):
        lists.write_text(names)
        annotations = read_voc(root, "val")
        assert [(record.path.stem, len(record.labels)) for record in annotations.images] == [("a", 1), ("b", 0)]
        assert any(re.search(says, problem) for problem in annotations.problems)
        with pytest.raises(InputError, match=says):
            read_voc(root, "val", ReadOptions(strict=True))


def test_lists_may_have_a_byte_order_mark_comments_paths_and_backslashes(write_voc):
    root = write_voc({"a": DOG, "b c": DOG})
    lines = "\ufeff# my split\nJPEGImages\\a.jpg\n  \nb c.jpg\n"
    (root / "ImageSets/Main/train.txt").write_text(lines, encoding="utf-8")
    assert [r.path.stem for r in read_voc(root, "train", ReadOptions(strict=True)).images] == ["a", "b c"]


def test_images_and_annotations_side_by_side_are_read_as_labelimg_and_roboflow_write_them(write_voc):
    root = write_voc({"a": DOG, "b": DOG})
    for name in ("train", "valid"):
        (root / name).mkdir()
    for file in (root / "JPEGImages/a.jpg", root / "Annotations/a.xml"):
        file.rename(root / "train" / file.name)
    for file in (root / "JPEGImages/b.jpg", root / "Annotations/b.xml"):
        file.rename(root / "valid" / file.name)
    (root / "ImageSets/Main/train.txt").unlink()
    for name, stem in (("train", "a"), ("valid", "b")):
        annotations = read_voc(root, name, ReadOptions(strict=True))
        assert [(record.path.stem, len(record.labels)) for record in annotations.images] == [(stem, 1)]
    (root / "train/c.xml").write_text(f"<annotation>{DOG}</annotation>")
    assert "c.*: no such image (looked for .jpg, .jpeg" in read_voc(root, "train").problems[0]


def test_two_images_of_one_name_are_told_apart_by_the_annotation_or_refused(write_voc):
    root = write_voc({"a": DOG})
    write_image(root / "JPEGImages/a.png")
    with pytest.raises(InputError, match=r"a\.jpg and a\.png are both the image of 'a'; move one away"):
        read_voc(root, "train")
    (root / "Annotations/a.xml").write_text(f"<annotation><filename>a.png</filename>{DOG}</annotation>")
    assert read_voc(root, "train").images[0].path.name == "a.png"


def test_empty_sets_are_refused(write_voc):
    root = write_voc({"a": DOG})
    (root / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(InputError, match="no image is left"):
        read_voc(root, "val", ReadOptions(classes=["dog"]))
    (root / "Annotations/a.xml").write_text("<annotation/>")
    with pytest.raises(InputError, match="no category"):
        read_voc(root, "train")


def test_given_classes_that_lack_one_of_the_data_are_refused(write_voc):
    with pytest.raises(InputError, match=r"a\.xml: object 1: unknown class 'dog'; did you mean 'dogs'"):
        read_voc(write_voc({"a": DOG}), "train", ReadOptions(strict=True, classes=["bird", "dogs"]))


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
            read_voc(shared_data / "bccd", name, ReadOptions(strict=True, verify=False))


@pytest.mark.parametrize(
    ("plain", "written"),
    [("<object>", "<Object>"), ("<annotation>", '<annotation xmlns="http://example.org/voc">'), ("bndbox>", "BndBox>")],
)
def test_tags_are_read_in_any_case_and_namespace(write_voc, plain, written):
    root = write_voc({"a": DOG})
    [file] = root.rglob("a.xml")
    text = file.read_text().replace(plain, written)
    file.write_text(text.replace("</object>", "</Object>") if "Object" in written else text)
    annotations = read_voc(root, "train", ReadOptions(strict=True))
    assert annotations.images[0].boxes.tolist() == [[0, 0, 40, 30]]
