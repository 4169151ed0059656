import csv
import json
import re
import shutil

import pytest
import torch
from tool_runs import SMALL as SMALL_DETECTION
from tool_runs import run, train_pair

from engine.report.files import read_report
from engine.runs.predict import RESULTS
from engine.weights.checkpoint import load_checkpoint

SMALL = (
    "--data.augment=crop",
    "--data.workers=0",
    "--data.in_memory=true",
    "--model.backbone=ode_resnet20_cifar",
    "--optim.opt=sgd",
    "--optim.lr=0.1",
    "--optim.batch_size=8",
    "--optim.epochs=2",
    "--optim.warmup_epochs=0",
)


def train(cwd, colors, name, *arguments):
    done = run("train", "classification", *SMALL, f"--data.root={colors}", f"--run.name={name}", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / name


def history(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, colors):
    """A run of 6 epochs."""
    return train(tmp_path_factory.mktemp("classification"), colors, "small", "--optim.epochs=6")


@pytest.mark.slow
def test_a_network_learns_the_colors(trained):
    assert float(history(trained)[-1]["top1"]) > 0.9
    metadata = load_checkpoint(trained / "best.pt", task="classification")["metadata"]
    assert (metadata["classes"], metadata["pretrained"]) == (["blue", "green", "red"], None)
    assert metadata["input"]["crop_pct"] == 1.0  # that of CIFAR's networks


@pytest.mark.slow
def test_the_report_tells_the_metrics_and_the_cost(trained, caplog):
    options = ["--checkpoint", trained / "best.pt", "--eval.calibration=8"]
    done = run("eval", "classification", *options, cwd=trained.parents[1])
    assert done.returncode == 0, done.stderr
    assert "eval.calibration=8: no other solver is tried; give eval.solvers" in caplog.text
    report = read_report(trained / "report")
    found = {quantity.name: quantity.value for quantity in report.quantities}
    assert found["top-1 accuracy"] == 100 * max(float(row["top1"]) for row in history(trained))
    assert found["NFE"] == 6
    assert found["parameters"] == sum(p.numel() for p in network(trained).values() if p.is_floating_point())
    confusions = report.tables[1]
    assert sum(sum(row[1:]) for row in confusions.rows) == 12


def test_the_report_tells_how_the_training_went(trained):
    assert run("eval", "classification", "--checkpoint", trained, cwd=trained.parents[1]).returncode == 0
    report = read_report(trained / "report")
    curves = {curve.title: curve for curve in report.curves}
    assert curves.keys() == {"Training: loss", "Training: top1"}
    assert curves["Training: top1"].y == tuple(float(row["top1"]) for row in history(trained))
    assert re.fullmatch(r"weights after epoch [1-6] of 6", report.facts["weights"])
    assert "epochs=6" in report.facts["optim"] and "unfinished" not in report.facts
    found = {quantity.name: quantity.value for quantity in report.quantities}
    assert found["training time"] == pytest.approx(sum(float(row["seconds"]) for row in history(trained)) / 60)
    assert found["throughput, batch 12"] > 0 and found["training memory, batch 16"] > 0


@pytest.mark.slow
def test_the_last_epochs_weights_are_compared_if_asked_for(trained):
    cwd = trained.parents[1]
    done = run("compare", trained, trained / "best.pt", "--checkpoint=last.pt", "--repeats=1", "--out=last", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found = read_report(trained / "report_last")
    assert found.facts["weights"] == "weights after epoch 6 of 6"
    last = {quantity.name: quantity.value for quantity in found.quantities}
    assert last["top-1 accuracy"] == 100 * float(history(trained)[-1]["top1"])
    (speed,) = (table for table in read_report(cwd / "last").tables if table.title == "Speed")
    assert "throughput, batch 12 [images/s] ↑" in {row[0] for row in speed.rows}


@pytest.mark.slow
def test_other_solvers_are_tried_if_the_config_names_them(trained):
    dial = ["--eval.solvers=[euler,bosh3]", "--eval.steps=[2,4]", "--eval.tolerances=[0.1]"]
    done = run(
        "eval",
        "classification",
        "--checkpoint",
        trained / "best.pt",
        "--out",
        "tried",
        *dial,
        "--eval.calibration=500",
        cwd=trained.parents[1],
    )
    assert done.returncode == 0, done.stderr
    report = read_report(trained.parents[1] / "tried")
    (table,) = (table for table in report.tables if table.title == "Solver transfer: top-1 accuracy [%]")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["solver"], row["steps"], row["tolerance"]) for row in rows] == [
        *[
            ("trained", None, None),
            ("calibrated", None, None),
            ("euler", 2, None),
            ("euler", 4, None),
            ("bosh3", None, 0.1),
        ],
    ]
    found = {quantity.name: quantity.value for quantity in report.quantities}
    assert rows[0]["top-1 accuracy [%]"] == found["top-1 accuracy"]
    assert "top-5 accuracy" not in found  # of three classes
    assert [row["NFE"] for row in rows[:4]] == [6, 6, 6, 12]
    costs = ("training memory, batch 16 [MiB]", "latency median [ms]", "throughput, batch 12 [images/s]")
    assert all(row[cost] > 0 for row in rows for cost in costs)
    assert [(point.solver, point.setting) for point in report.points] == [
        ("euler", "2"),
        ("euler", "4"),
        ("bosh3", "0.1"),
    ]
    assert report.headline[0].png.startswith(b"\x89PNG")


BACKBONE = "{channels: [8, 8, 16, 16]}"


@pytest.mark.slow
def test_a_detector_starts_from_the_weights_of_a_classifier_and_says_so(tmp_path, colors):
    small = (f"--model.backbone_args={BACKBONE}", "--data.image_size=64")  # at 224, 8 channels crash oneDNN on AVX-512
    first = train(tmp_path, colors, "first", "--model.backbone=ode_resnet18", *small)
    best = first / "best.pt"
    arguments = [*SMALL_DETECTION, "--run.name=second", f"--model.pretrained={best}"]
    done = run("train", "detection", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("pretrained: "))
    assert re.fullmatch(
        rf"pretrained: {best} \(ode_resnet18\(.*\)\): (\d+) of \1 tensors taken; 2 not used \(fc\.weight, fc\.bias\)",
        line,
    )
    gone = best.rename(tmp_path / "gone.pt")
    done = run("train", "detection", *arguments, "--run.resume=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert line in done.stdout and "nothing is left to do" in done.stdout
    gone.rename(best)
    mixed = run("compare", "runs/first", "runs/second", "--out=mixed", cwd=tmp_path)
    assert mixed.returncode == 2 and "runs of several tasks can't be compared" in mixed.stderr
    done = run("eval", "detection", "--checkpoint", "runs/second/best.pt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"pretrained: {read_report(tmp_path / 'runs/second/report').facts['pretrained']}" == line


def network(folder):
    """The parameters of the run's model, without its statistics."""
    weights = load_checkpoint(folder / "best.pt", task="classification")["model"]
    return {name: tensor for name, tensor in weights.items() if "running" not in name and "num_batches" not in name}


def test_a_prediction_names_the_likeliest_classes(trained, colors):
    out = trained.parent / "predictions"
    done = run(
        "predict",
        "classification",
        "--checkpoint",
        trained / "best.pt",
        "--input",
        colors / "val" / "red",
        "--out",
        out,
        cwd=trained.parents[1],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((out / RESULTS).read_text())
    assert len(found) == 4
    assert all(each["labels"][0] == "red" for each in found)
    assert all(each["scores"] == sorted(each["scores"], reverse=True) for each in found)
    assert all(sum(each["scores"]) == pytest.approx(1.0, abs=1e-5) for each in found)


@pytest.mark.slow
def test_a_converted_classifier_sees_the_images_as_its_resnet_was_trained_on_them(tmp_path, colors):
    small = "--model.backbone_args={channels: [8, 8, 16, 16]}"
    train(tmp_path, colors, "plain", "--model.backbone=resnet18.tv_in1k", small, "--data.image_size=40")
    assert run("convert", "--run=runs/plain", "--out=runs/ode", cwd=tmp_path).returncode == 0
    reports = []
    for name in ("plain", "ode"):
        done = run("eval", "classification", f"--checkpoint=runs/{name}", f"--out={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        reports.append(read_report(tmp_path / name))
    assert {r.facts["image size"] for r in reports} == {"40x40 px, cropped to 0.875, bilinear"}  # tv_in1k's
    first, second = ([q.value for q in r.quantities if q.group == "accuracy"] for r in reports)
    assert first == pytest.approx(second, abs=1e-4)


@pytest.mark.slow
def test_a_teacher_takes_part_in_the_losses(tmp_path, colors, trained):
    teacher = tmp_path / "teacher.pth"
    torch.save(load_checkpoint(trained / "best.pt", task="classification")["model"], teacher)
    config = f"--distillation.teacher={{name: ode_resnet20_cifar, checkpoint: {teacher}}}"
    folder = train(tmp_path, colors, "student", config)
    assert {"loss_labels", "loss_scores", "loss_features"} <= history(folder)[0].keys()


@pytest.mark.slow
def test_two_processes_evaluate_each_image_once(tmp_path, colors):
    shutil.copytree(colors, tmp_path / "data")
    (tmp_path / "data" / "val" / "red" / "0.png").unlink()  # an odd number: a repeated image would show
    settings = [*SMALL, "--data.root=data", "--optim.batch_size=4", "--optim.epochs=1", "--run.name=pair"]
    train_pair("classification", *settings, cwd=tmp_path, port=29549)
    (row,) = history(tmp_path / "runs" / "pair")
    done = run("eval", "classification", "--checkpoint=runs/pair/last.pt", "--out=report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path / "report")
    assert report.facts["images"] == "11"
    assert {quantity.name: quantity.value for quantity in report.quantities}["top-1 accuracy"] == 100 * float(
        row["top1"]
    )


def test_damaged_images_stop_a_training_before_it_starts(tmp_path, colors):
    shutil.copytree(colors, tmp_path / "data")
    (tmp_path / "data" / "train" / "red" / "0.png").write_bytes(b"no image")
    settings = [*SMALL, "--data.root=data", "--data.in_memory=false"]
    done = run("train", "classification", *settings, cwd=tmp_path)
    assert done.returncode == 2 and re.search(r"1 of 24 images can't be read.*red/0\.png", done.stderr), done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model.backbone=resnet20_cifr", "unknown model.*resnet20_cifar"),
        ("--data.root=nowhere", "nowhere/train: no such folder"),
        ("--data.root=", "data.root: give the folder"),
        ("--optim.epoch=3", "unknown option 'optim.epoch'; did you mean 'optim.epochs'"),
        ("--optim.batch-size=3", "unknown option 'optim.batch-size'; did you mean 'optim.batch_size'"),
        ("--config=typo.yaml", "unknown option 'optim.epoch'; did you mean 'optim.epochs'"),
        ("--model.pretrained=true", "model.pretrained=true: there are no published weights of"),
        ("--model.checkpoint=none.pth", "model.checkpoint: none.pth: no such checkpoint"),
        ("--distillation.teacher={name: resnet18}", "resnet18 has no trained weights"),
        ("--model.backbone_args={num_classes: 4}", "num_classes: set by the task; remove it"),
        ("--optim.batch_size=100", "training set has 24"),
        ("--data.format=mnist", "incomplete or missing mnist"),
        ("--model.pretrained=gone.pt", "model.pretrained='gone.pt': no file gone.pt; expected"),
        ("--eval.solvers=[eulr]", "unknown solver in eval.solvers 'eulr'; did you mean 'euler'"),
    ],
)
def test_bad_input_is_told_in_one_line_before_work_starts(tmp_path, colors, argument, message):
    (tmp_path / "typo.yaml").write_text("optim: {epoch: 3}")
    done = run("train", "classification", *SMALL, f"--data.root={colors}", argument, cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_images_that_are_in_both_splits_are_warned_of(colors, tmp_path, caplog):
    done = run("train", "classification", *SMALL, f"--data.root={colors}", "--data.val=train", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "validation images are training images, too" in caplog.text


def test_a_network_for_images_of_one_size_says_so_before_the_training(colors, tmp_path):
    vit = ("--model.backbone=vit_tiny_patch16_224", "--model.backbone_args={}", "--data.image_size=32")
    done = run("train", "classification", *SMALL, *vit, f"--data.root={colors}", cwd=tmp_path)
    assert done.returncode == 2
    assert "the model does not take these images (Input height (32) doesn't match model (224)" in done.stderr
