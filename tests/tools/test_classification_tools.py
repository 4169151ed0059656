import csv
import json
import re

import pytest
import torch
from tool_runs import run

from odebackbones.engine.checkpoint import load_checkpoint
from odebackbones.engine.predict import RESULTS
from odebackbones.engine.report import read_report

SMALL = (
    "--data.augment=crop",
    "--data.workers=0",
    "--data.in_memory=true",
    "--model.name=ode_resnet20_cifar",
    "--optim.opt=sgd",
    "--optim.lr=0.1",
    "--optim.batch_size=8",
    "--optim.epochs=2",
    "--optim.warmup_epochs=0",
)


def train(cwd, colours, name, *arguments):
    done = run("train", "classification", *SMALL, f"--data.root={colours}", f"--run.name={name}", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / name


def history(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, colours):
    """A run of 6 epochs."""
    return train(tmp_path_factory.mktemp("classification"), colours, "small", "--optim.epochs=6")


def test_a_network_learns_the_colours(trained):
    assert float(history(trained)[-1]["top1"]) > 0.9
    assert load_checkpoint(trained / "best.pt", task="classification")["metadata"] == {
        "classes": ["blue", "green", "red"]
    }


def test_the_report_tells_the_metrics_and_the_cost(trained):
    done = run("eval", "classification", "--checkpoint", trained / "best.pt", cwd=trained.parents[1])
    assert done.returncode == 0, done.stderr
    report = read_report(trained / "report")
    found = {quantity.name: quantity.value for quantity in report.quantities}
    assert found["top-1 accuracy"] == max(float(row["top1"]) for row in history(trained))
    assert found["NFE"] == 6
    assert found["parameters"] == sum(p.numel() for p in network(trained).values() if p.is_floating_point())
    confusions = report.tables[1]
    assert sum(sum(row[1:]) for row in confusions.rows) == 12


def network(folder):
    """The parameters of the run's model, without its statistics."""
    weights = load_checkpoint(folder / "best.pt", task="classification")["model"]
    return {name: tensor for name, tensor in weights.items() if "running" not in name and "num_batches" not in name}


def test_a_prediction_names_the_likeliest_classes(trained, colours):
    out = trained.parent / "predictions"
    done = run(
        "predict",
        "classification",
        "--checkpoint",
        trained / "best.pt",
        "--input",
        colours / "val" / "red",
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


def test_a_teacher_takes_part_in_the_losses(tmp_path, colours, trained):
    teacher = tmp_path / "teacher.pth"
    torch.save(load_checkpoint(trained / "best.pt", task="classification")["model"], teacher)
    config = f"--distillation.teacher={{name: ode_resnet20_cifar, checkpoint: {teacher}}}"
    folder = train(tmp_path, colours, "student", config)
    assert {"loss_labels", "loss_scores", "loss_features"} <= history(folder)[0].keys()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model.name=resnet20_cifr", "unknown model.*resnet20_cifar"),
        ("--data.root=nowhere", "nowhere/train: no such folder"),
        ("--data.root=", "data.root: give the folder"),
        ("--model.checkpoint=none.pth", "model.checkpoint='none.pth': no such file"),
        ("--distillation.teacher={name: resnet18}", "resnet18 has no trained weights"),
        ("--model.args={num_classes: 4}", "num_classes: not for a model to be given"),
        ("--optim.batch_size=100", "training set has 24"),
    ],
)
def test_bad_input_is_told_in_one_line_before_work_starts(tmp_path, colours, argument, message):
    done = run("train", "classification", *SMALL, f"--data.root={colours}", argument, cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
