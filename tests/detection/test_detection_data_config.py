import re
from dataclasses import fields, replace

import pytest
from detection_files import kitti_line, voc_object
from jsonargparse import auto_cli

from detection.data.config import DataConfig, ShapesConfig
from detection.data.draw import OUTLINES
from detection.data.read import read_annotations
from odebackbones.errors import InputError


def test_the_command_line_sets_every_kind_of_field():
    arguments = ["--format=voc", "--classes=[dog, cat]", "--strict=true", "--shapes.size=96"]
    config = auto_cli(DataConfig, args=arguments)
    assert config == DataConfig(format="voc", classes=["dog", "cat"], strict=True, shapes=ShapesConfig(size=96))
    assert auto_cli(DataConfig, args=[]) == DataConfig()


@pytest.mark.parametrize("config", [DataConfig, ShapesConfig])
def test_every_field_is_explained_in_the_help(config, capsys):
    with pytest.raises(SystemExit):
        auto_cli(config, args=["--help"])
    text = " ".join(capsys.readouterr().out.split())
    explained = dict(re.findall(r"^ {8}(\w+): (.{10,30})", config.__doc__, flags=re.MULTILINE))
    assert set(explained) == {field.name for field in fields(config)}
    assert all(start in text for name, start in explained.items() if name != "shapes")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"format": "yolo"}, "unknown data format 'yolo'"),
        ({"augment": "flop"}, "unknown augmentation 'flop'; did you mean 'flip'"),
        ({"workers": -1}, "--data.workers must be 0 or more"),
    ],
)
def test_bad_values_are_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        DataConfig(**wrong)
    with pytest.raises(InputError, match="size must be at least"):
        ShapesConfig(size=10)


def test_shapes_are_generated_with_other_images_for_each_split(tmp_path):
    config = DataConfig(root=str(tmp_path), shapes=ShapesConfig(train_images=3, val_images=2, size=64))
    train, val = (read_annotations(config, split) for split in ("train", "val"))
    assert (len(train.images), len(val.images)) == (3, 2)
    assert train.classes == val.classes == tuple(OUTLINES)
    images = [record.path.read_bytes() for split in (train, val) for record in split.images]
    assert len(set(images)) == 5


def test_coco_is_read_from_the_root_with_the_right_classes(coco_content, write_coco, tmp_path):
    write_coco(coco_content)
    config = DataConfig(format="coco", root=str(tmp_path), val="instances.json", val_images="images")
    assert read_annotations(config, "val").classes == ("car", "cat", "brush")
    named = replace(config, classes=["brush", "cat", "car"])
    assert read_annotations(named, "val").classes == ("brush", "cat", "car")
    assert read_annotations(named, "val", classes=["cat", "car", "brush"]).classes == ("cat", "car", "brush")
    with pytest.raises(InputError, match=r"--data\.train is empty; coco needs the annotation file there"):
        read_annotations(config, "train")
    with pytest.raises(InputError, match=r"--data\.train_images is empty"):
        read_annotations(replace(config, train="instances.json"), "train")


def test_voc_is_read_from_the_root(write_voc):
    root = write_voc({"a": voc_object("dog", (5, 5, 5, 9)) + voc_object("dog", (1, 1, 9, 9))})
    config = DataConfig(format="voc", root=str(root), train="train")
    assert read_annotations(config, "train").images[0].boxes.tolist() == [[0, 0, 9, 9]]
    with pytest.raises(InputError, match="zero area"):
        read_annotations(replace(config, strict=True), "train")
    with pytest.raises(InputError, match=r"--data\.val is empty"):
        read_annotations(config, "val")


def test_kitti_is_read_from_the_root(write_kitti):
    root = write_kitti({"000001": [kitti_line("Car", (1, 2, 3, 4))], "000002": []})
    (root / "train.txt").write_text("000001\n")
    config = DataConfig(format="kitti", root=str(root), train="train.txt")
    assert [record.image_id for record in read_annotations(config, "train").images] == [1]
    with pytest.raises(InputError, match=r"--data\.val is empty; kitti needs a file of frame ids"):
        read_annotations(config, "val")


@pytest.mark.parametrize("name", ["coco", "voc", "kitti"])
def test_a_missing_root_is_refused_by_the_options_name(tmp_path, name):
    config = DataConfig(format=name, root=str(tmp_path / "none"), train="train", train_images="images")
    with pytest.raises(InputError, match=f"no such folder; set --data.root to the {name} data set"):
        read_annotations(config, "train")
