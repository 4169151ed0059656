"""Bad input: one clear line, exit status 2, nothing written or overwritten."""

import json
import os
import resource
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from tool_runs import SMALL, command, environment, run

from engine.weights.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def coco(tmp_path):
    """A COCO set of four images with an object each."""
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0)
    for i in range(1, 5):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.jpg"), noise.integers(0, 255, (64, 64, 3), np.uint8))
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in range(1, 5)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "bbox": [8, 8, 30, 30], "area": 900, "iscrowd": 0}
            for i in range(1, 5)
        ],
        "categories": [{"id": 3, "name": "thing"}],
    }
    write_json(tmp_path, content)
    return tmp_path


def write_json(folder, content):
    (folder / "train.json").write_text(json.dumps(content))


def read_json(folder):
    return json.loads((folder / "train.json").read_text())


COCO = [
    "--data.format=coco",
    "--data.root=.",
    "--data.train=train.json",
    "--data.val=train.json",
    "--data.train_images=images",
    "--data.val_images=images",
]


def refused(done, *words):
    """Check for exit status 2 and a single line that holds the words."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    [line] = [line for line in done.stderr.strip().splitlines() if not line.startswith(("repaired", "left out"))]
    assert line.startswith("error: "), line
    for word in words:
        assert word in line, line


def train(folder, *arguments):
    return run("train", "detection", *SMALL, *arguments, cwd=folder)


def test_a_truncated_image_is_named_before_training(coco):
    path = coco / "images" / "2.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    refused(train(coco, *COCO, "--data.strict=true"), "2.jpg")
    assert not (coco / "runs").exists()


@pytest.mark.slow
def test_a_truncated_image_that_was_not_verified_is_named_when_it_is_read(coco):
    path = coco / "images" / "2.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    refused(train(coco, *COCO, "--data.verify=false", "--data.workers=1"), "2.jpg", "--data.verify true")


def change(**parts):
    def apply(folder):
        write_json(folder, {**read_json(folder), **parts})

    return apply


def change_annotation(**parts):
    def apply(folder):
        content = read_json(folder)
        content["annotations"][0].update(parts)
        write_json(folder, content)

    return apply


FAULTS = {
    "not JSON": (lambda folder: (folder / "train.json").write_text("<xml/>"), ["train.json"]),
    "JSON that is no COCO": (lambda folder: write_json(folder, {"a": 1}), ["train.json", "annotations"]),
    "a missing category": (change_annotation(category_id=9), ["train.json", "9"]),
    "a negative box": (change_annotation(bbox=[8, 8, -5, 30]), ["train.json", "negative width"]),
    "an empty set": (change(images=[], annotations=[]), ["train.json"]),
    "no annotation file": (lambda folder: (folder / "train.json").unlink(), ["train.json"]),
    "no image folder": (lambda folder: shutil.rmtree(folder / "images"), ["images"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_annotations_are_refused_with_what_is_wrong(coco, fault):
    apply, words = FAULTS[fault]
    apply(coco)
    refused(train(coco, *COCO, "--data.strict=true"), *words)
    assert not (coco / "runs").exists()


OPTIONS = {
    "unknown model": (["--model.backbone=ode_resnet43"], ["'ode_resnet43'", "ode_resnet34"]),
    "unknown solver": (["--model.backbone_args={solver: huen}"], ["'huen'", "'heun'"]),
    "unknown argument": (["--model.backbone_args={stepps: 3}"], ["stepps"]),
    "unknown key": (["--optim.lrr=3"], ["optim.lrr"]),
    "wrong type": (["--optim.lr=fast"], ["optim.lr", "fast"]),
    "unknown optimizer": (["--optim.opt=adamv"], ["'adamv'", "adamw"]),
    "unknown format": (["--data.format=cocoo"], ["unknown value of data.format 'cocoo'", "did you mean 'coco'"]),
    "unknown augmentation": (["--data.augment=flop"], ["'flop'", "flip"]),
    "no such device": (["--run.device=cuda:77"], ["cuda"]),
    "a device of another kind": (["--run.device=meta"], ["meta", "cpu"]),
    "a negative rate": (["--optim.lr=-1"], ["optim.lr", "-1"]),
    "a negative seed": (["--run.seed=-1"], ["run.seed", "-1"]),
    "a warm-up of less than nothing": (["--optim.warmup_epochs=-1"], ["optim.warmup_epochs", "from 0"]),
    "a class for a plain value": (["--model.backbone_args={checkpoints: {class_path: os.system}}"], ["os.system"]),
    "no pretrained weights": (["--model.pretrained=true"], ["ode_resnet18"]),
    "layers of a wrong number": (["--model.backbone_args={layers: [2, 2]}"], ["layers"]),
    "no such data": (["--data.format=voc", "--data.root=nowhere"], ["nowhere", "--data.root"]),
    "no such config": (["--config=none.yaml"], ["none.yaml"]),
    "more images an update than there are": (["--optim.accumulate=99"], ["accumulate=99"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", OPTIONS)
def test_faulty_options_are_refused_with_the_near_ones(tmp_path, fault):
    arguments, words = OPTIONS[fault]
    refused(train(tmp_path, *arguments), *words)


def test_no_images_are_generated_among_the_users(coco):
    refused(train(coco, "--data.root=."), "data.format=shapes", "images/1.jpg", "coco, voc, kitti")
    refused(run("train", "depth", "--data.root=.", cwd=coco), "data.format=scenes", "folder, kitti")
    assert not list(coco.glob("shapes_*"))


def test_a_class_without_an_object_is_refused_with_the_near_ones(coco):
    strict = train(coco, *COCO, "--data.classes=[thin]", "--data.strict=true")
    refused(strict, "data.classes", "'thin'", "did you mean 'thing'")


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "is empty"), ("model: [1,", "not valid YAML"), ("hello", "holds 'hello'")],
)
def test_a_config_without_settings_is_named(tmp_path, content, words):
    (tmp_path / "c.yaml").write_text(content)
    refused(run("train", "detection", "--config=c.yaml", cwd=tmp_path), "--config c.yaml", words)


def test_the_config_of_another_task_is_told(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {shapes: {size: 64}}")
    refused(run("train", "classification", "--config=c.yaml", cwd=tmp_path), "'data.shapes.size'", "of another task?")


def test_mistakes_show_before_the_data_are_read(tmp_path):
    refused(train(tmp_path, "--data.format=voc", "--data.root=nowhere", "--model.backbone_args={stepps: 3}"), "stepps")
    refused(train(tmp_path, "--data.format=voc", "--data.root=nowhere", "--optim.opt=adm"), "'adm'", "'adam'")


def test_types_are_named_in_plain_words(tmp_path):
    refused(train(tmp_path, "--model.min_size=3"), "model.min_size", "Expected a list such as [1, 2]. Got value: 3")
    refused(train(tmp_path, "--data.classes=dog"), "Expected one of: a list such as [a, b], null. Got value: dog")
    refused(run("predict", "detection", cwd=tmp_path), "also give --input, --out, --checkpoint")


def test_a_missing_or_unknown_task_is_refused_with_the_known_ones(tmp_path):
    refused(run("train", cwd=tmp_path), "detection")
    refused(run("eval", "detecton", cwd=tmp_path), "'detecton'", "'detection'")
    refused(run("eval", "detection", "--checkpoint", cwd=tmp_path), "--checkpoint")
    refused(run("compare", "a", "b", "--out=c", "--repeats=-1", cwd=tmp_path), "--repeats -1")


@pytest.mark.slow
def test_checkpoints_that_do_not_fit_are_refused_by_every_tool(trained, tmp_path):
    best = load_checkpoint(trained / "runs" / "small" / "best.pt")
    best["config"]["model"]["backbone_args"] = {"channels": [8, 8, 16, 24]}
    best.pop("format")
    save_checkpoint(tmp_path / "other.pt", **best)
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    save_checkpoint(tmp_path / "depth.pt", task="depth")
    (tmp_path / "text.pt").write_text("hello")
    for name, word in (
        ("other.pt", "another model"),
        ("foreign.pt", "not a checkpoint of ours"),
        ("depth.pt", "'depth'"),
        ("text.pt", "not a PyTorch checkpoint"),
        ("none.pt", "no such checkpoint"),
    ):
        refused(run("eval", "detection", f"--checkpoint={name}", "--out=report", cwd=tmp_path), name, word)
    refused(run("predict", "detection", "--checkpoint=text.pt", "--input=x.png", "--out=out", cwd=tmp_path), "text.pt")
    refused(run("compare", "runs/a", "runs/b", "--out=out", cwd=tmp_path), "runs/a/best.pt")
    assert not (tmp_path / "report").exists()
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_whose_config_names_a_class_builds_nothing(trained, tmp_path):
    best = load_checkpoint(trained / "runs" / "small" / "best.pt")
    best.pop("format")
    harm = {"class_path": "subprocess.getoutput", "init_args": {"cmd": f"touch {tmp_path}/harm"}}
    for name, arguments in (("nested", {"x": harm}), ("whole", harm), ("list", {"x": [harm]})):
        best["config"]["model"]["backbone_args"] = arguments
        save_checkpoint(tmp_path / f"{name}.pt", **best)
        refused(run("eval", "detection", f"--checkpoint={name}.pt", "--out=report", cwd=tmp_path), "backbone_args")
    assert not (tmp_path / "harm").exists()


def test_predicting_on_nothing_is_refused(trained):
    refused(
        run("predict", "detection", "--checkpoint=runs/small/best.pt", "--input=none.png", "--out=o", cwd=trained),
        "none.png",
    )
    assert not (trained / "o").exists()


def test_an_output_folder_that_is_a_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "taken").write_text("mine")
    refused(train(tmp_path, "--run.output=taken"), "taken")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/limits"), reason="needs a limit on the size of files")
def test_a_disk_that_is_full_ends_the_run_with_one_line_and_no_half_checkpoint(tmp_path):
    def limit_file_size():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        command("train", "detection", *SMALL, "--run.name=full"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=limit_file_size,
    )
    refused(done, "File too large")
    assert {path.name for path in (tmp_path / "runs" / "full").iterdir()} <= {"config.yaml", "log.csv"}


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--data.classes=[ring]", "data.classes: the model was trained on circle, cross, ring, "),
        ("--model.score_threshold=50", "model.score_threshold=50.0: expected a share"),
        ("--model.detections=0", "model.detections=0: expected at least 1"),
        ("--run.seed=9223372036854775808", "expected at least 0, and less than 2**63"),
    ],
)
def test_settings_that_would_be_left_aside_are_refused(trained, argument, words):
    done = run("eval", "detection", "--checkpoint=runs/small", argument, "--out=refused", cwd=trained)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_config_in_utf_16_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("run: {name: x}", encoding="utf-16")
    done = run("train", "detection", "--config=config.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "--config: not a text file in UTF-8" in done.stderr
