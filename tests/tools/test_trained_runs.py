"""What can be done with a trained run: another solver, a conversion and back, a start for another, a teacher."""

import json
from pathlib import Path

import pytest
from tool_runs import SMALL, run, train_small
from torch import nn

from engine.report.files import read_report
from engine.weights.checkpoint import load_checkpoint
from engine.weights.solver_change import require_ode_blocks
from odebackbones.errors import InputError

PLAIN = ["--model.backbone=resnet18", "--model.backbone_args={layers: [2, 3, 2, 1], channels: [8, 8, 16, 16]}"]


def values(folder):
    return {q.name: q.value for q in read_report(folder).quantities if q.group == "accuracy"}


def evaluate(cwd, name, *arguments):
    done = run("eval", "detection", f"--checkpoint=runs/{name}", f"--out=report_{name}", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / f"report_{name}"


@pytest.mark.slow
def test_a_run_becomes_an_ode_run_of_the_same_figures_and_comes_back(tmp_path):
    train_small(tmp_path, "plain", *PLAIN)
    for source, out in (("plain", "ode"), ("ode", "back")):
        done = run("convert", f"--run=runs/{source}", f"--out=runs/{out}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    before = values(evaluate(tmp_path, "plain"))
    assert values(evaluate(tmp_path, "ode")) == pytest.approx(before, abs=1e-4)
    assert values(evaluate(tmp_path, "back")) == pytest.approx(before, abs=1e-4)
    adaptive = read_report(evaluate(tmp_path, "ode", "--model.backbone_args.solver=bosh3"))  # steps without a ReLU
    assert adaptive.facts["solver"] == "changed after training: solver=bosh3"
    ode, back = (load_checkpoint(tmp_path / "runs" / name / "best.pt") for name in ("ode", "back"))
    assert ode["config"]["model"]["backbone"] == "ode_resnet18"
    assert ode["config"]["run"]["device"] == "auto"
    assert ode["config"]["model"]["backbone_args"]["steps"] == [1, 2, 1, None]
    assert back["config"]["model"]["backbone_args"]["layers"] == [2, 3, 2, 1]
    report = read_report(tmp_path / "report_ode")
    assert report.name == ode["config"]["run"]["name"] == "ode"
    assert report.facts["converted"].startswith("from runs/plain/best.pt (resnet18), its features differ by at most ")


@pytest.mark.slow
def test_a_run_is_fitted_to_fewer_weights_and_trained_on_toward_the_run_that_it_was(tmp_path):
    train_small(tmp_path, "plain", *PLAIN)
    assert run("convert", "--run=runs/plain", "--out=runs/ode", cwd=tmp_path).returncode == 0
    fitted = run("convert", "--run=runs/plain", "--out=runs/k1", "--bases=1", "--fit", "--fit-images=4", cwd=tmp_path)
    assert fitted.returncode == 0, fitted.stderr
    found = load_checkpoint(tmp_path / "runs" / "k1" / "best.pt")["model"]
    assert not any(name.endswith("field.conv1.weight.1") for name in found)
    none = run("convert", "--run=runs/plain", "--out=runs/k2", "--bases=0", cwd=tmp_path)
    assert none.returncode == 2 and "--bases 0: the 3 stages have" in none.stderr
    for bases in ("--bases 3", "--bases 1 2 1"):
        again = run("convert", "--run=runs/plain", "--out=runs/k2", *bases.split(), "--fit", cwd=tmp_path)
        assert again.returncode == 2 and "--fit: nothing to reduce" in again.stderr
    more = run("convert", "--run=runs/plain", "--out=runs/k2", "--bases", "1", "3", "1", cwd=tmp_path)
    assert more.returncode == 2 and "the 3 stages have [1, 2, 1] residual blocks to replace" in more.stderr
    start = ["--config=runs/k1/config.yaml", "--run.name=taught"]
    wrong = run("train", "detection", *start, "--model.checkpoint=runs/plain", cwd=tmp_path)
    assert wrong.returncode == 2 and "tools/convert.py --run runs/plain" in wrong.stderr
    budgets = ["--config=runs/ode/config.yaml", "--run.name=budgets", "--model.checkpoint=runs/ode"]
    done = run("train", "detection", *budgets, "--anytime.budgets=[1,3]", "--optim.epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # statistics are interpolated to the budgets' times
    start += ["--model.checkpoint=runs/k1", "--distillation.teacher=runs/plain"]
    done = run("train", "detection", *start, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "distillation.teacher: runs/plain/best.pt, resnet18" in done.stdout + done.stderr
    dial = run("eval", "detection", "--checkpoint=runs/plain", "--eval.solvers=[euler]", cwd=tmp_path)
    assert dial.returncode == 2 and "resnet18 has no ODE blocks, so there is no solver to change" in dial.stderr
    assert {"loss_features", "loss_maps"} <= set(
        (tmp_path / "runs/taught/log.csv").read_text().split("\n")[0].split(",")
    )


def test_a_run_without_steps_has_no_solver_to_change():
    with pytest.raises(InputError, match=r"ode_resnet18 was trained with steps=0, without any flow .* take a run that"):
        require_ode_blocks(nn.Identity(), "ode_resnet18", {"steps": 0}, Path("runs/control"))


@pytest.mark.slow
def test_a_run_is_evaluated_and_predicts_under_another_solver(trained):
    report = read_report(evaluate(trained, "small", "--model.backbone_args.steps=[1,2,1,1]"))
    assert report.facts["solver"] == "changed after training: steps=[1, 2, 1, 1]"
    assert {q.name: q.value for q in report.quantities}["NFE"] == 2 * 5
    adaptive = "--model.backbone_args={solver: bosh3, rtol: 0.1, atol: 0.1}"
    report = read_report(evaluate(trained, "small", adaptive))
    found = {q.name: q.value for q in report.quantities}
    assert found["NFE per image, least"] <= found["NFE per image, mean"] <= found["NFE per image, greatest"]
    differs = found["NFE per image, least"] < found["NFE per image, greatest"]
    assert {picture.row for picture in report.pictures} == ({"", "cheapest", "costliest"} if differs else {""})
    assert "solver=bosh3" in report.facts["model"]
    images = "runs/data/shapes_val_5x64px_seed1/images"
    done = run(
        *("predict", "detection", "--checkpoint=runs/small", "--model.backbone_args.steps=1", f"--input={images}"),
        "--out=found",
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads((trained / "found/results.json").read_text())) == 5


@pytest.mark.slow
def test_the_dial_of_a_detector(trained):
    arguments = ["--eval.solvers=[euler]", "--eval.steps=[1,[1,2,1,1]]", "--eval.calibration=4"]
    report = read_report(evaluate(trained, "small", *arguments))
    table = report.tables[0]
    assert table.title == "Solver transfer: AP"
    assert [row[:2] for row in table.rows] == [
        ("trained", None),
        ("calibrated", None),
        ("euler", 1),
        ("euler", "1-2-1-1"),
    ]
    assert [point.steps for point in report.points] == [1, (1, 2, 1, 1)]


@pytest.mark.slow
def test_a_converted_run_is_evaluated_with_fewer_steps_and_beside_no_dial_of_another_solver(tmp_path):
    train_small(tmp_path, "plain", *PLAIN)
    assert run("convert", "--run=runs/plain", "--out=runs/ode", cwd=tmp_path).returncode == 0
    report = read_report(evaluate(tmp_path, "ode", "--model.backbone_args.steps=[1,1,1]", "--eval.calibration=4"))
    assert "statistics of norms estimated again on 4 training images" in report.facts["solver"]
    both = ["--model.backbone_args.steps=[1,1,1]", "--eval.solvers=[euler]", "--out=never"]
    done = run("eval", "detection", "--checkpoint=runs/ode", *both, cwd=tmp_path)
    assert done.returncode == 2 and "starts from the solver that the weights were trained with" in done.stderr
    other = run("eval", "detection", "--checkpoint=runs/ode", "--model.backbone=resnet18", cwd=tmp_path)
    assert other.returncode == 2 and "the weights are of ode_resnet18" in other.stderr
    typo = run("eval", "detection", "--checkpoint=runs/ode", "--model.backbone_args.step=2", cwd=tmp_path)
    assert typo.returncode == 2 and "did you mean 'steps'" in typo.stderr
    last = run("compare", "runs/plain", "runs/ode", "--checkpoint=last.pt", "--out=never", cwd=tmp_path)
    assert last.returncode == 2 and "the run has best.pt only" in last.stderr


@pytest.mark.slow
def test_a_report_with_other_solvers_is_not_replaced_by_one_without_them(trained):
    command = ["eval", "detection", "--checkpoint=runs/small"]
    dial = run(*command, "--eval.solvers=[euler]", "--eval.steps=[1]", cwd=trained)
    assert dial.returncode == 0 and "| euler" in dial.stdout, dial.stderr
    before = (trained / "runs/small/report/report.json").read_bytes()
    refused = run(*command, cwd=trained)
    assert refused.returncode == 2 and "has the figures under euler" in refused.stderr
    changed = run(*command, "--model.backbone_args.steps=1", cwd=trained)
    assert changed.returncode == 0, changed.stderr
    assert (trained / "runs/small/report_steps-1/report.json").is_file()
    assert (trained / "runs/small/report/report.json").read_bytes() == before
    own = run("compare", "runs/small", "runs/small", "--out=runs/small", cwd=trained)
    assert own.returncode == 2 and "the folder of a run" in own.stderr


REFUSED = {
    "steps for five stages": (["--model.backbone_args.steps=[1,2,1,1,1]"], "expected a number, or 4, one for each"),
    "steps of the dial for five": (["--eval.solvers=[euler]", "--eval.steps=[[1,2,1,1,1]]"], "expected a number, or 4"),
    "another network": (["--model.backbone_args.channels=[8,8,8,8]"], "only the solver can be changed"),
    "an unknown solver": (["--model.backbone_args.solver=huen"], "did you mean 'heun'"),
    "an unknown solver of the dial": (["--eval.solvers=[huen]"], "unknown solver in eval.solvers 'huen'"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_the_weights_can_not_do_is_refused(trained, fault):
    arguments, words = REFUSED[fault]
    done = run("eval", "detection", "--checkpoint=runs/small", *arguments, "--out=never", cwd=trained)
    assert done.returncode == 2 and words in done.stderr
    assert not (trained / "never").exists()


def test_conversions_that_can_not_be_are_refused(trained):
    for arguments, words in (
        (["--run=runs/small", "--bases=1", "--out=never"], "are for the way to them"),
        (["--run=runs/small", "--out=never"], "no plain network computes steps of midpoint"),
        (["--run=runs/nix", "--out=never"], "runs/nix: no such checkpoint; give the folder of a run"),
        (["--run=runs/smal", "--out=never"], "runs/smal: no such checkpoint; did you mean runs/small?"),
        (["resnet18", "--run=runs/small", "--out=never"], "and not both"),
        (["--run=runs/small", "--num-classes=3", "--out=never"], "--num-classes is for a model's name"),
        (["--run=runs/small", "--steps=1", "--out=never"], "--steps: fewer steps take a fit"),
    ):
        done = run("convert", *arguments, cwd=trained)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert not (trained / "never").exists()


def test_a_teacher_that_does_not_fit_is_refused(trained):
    wider = ["--model.backbone_args={channels: [8, 8, 16, 24]}", "--run.name=other"]
    done = run("train", "detection", *SMALL, *wider, "--distillation.teacher=runs/small", cwd=trained)
    assert done.returncode == 2 and "distillation.teacher has features" in done.stderr
    assert not (trained / "runs/other").exists()
    depth = run("train", "depth", "--distillation.teacher=runs/small", cwd=trained)
    assert depth.returncode == 2
    misspelled = run("train", "detection", *SMALL, "--run.name=other", "--distillation.teacher=runs/smal", cwd=trained)
    assert misspelled.returncode == 2 and "did you mean runs/small?" in misspelled.stderr
    assert "train:" not in misspelled.stdout + misspelled.stderr  # it shows before the data are read


def test_an_anytime_run_has_statistics_for_every_budget(tmp_path):
    folder = train_small(tmp_path, "any", "--anytime.budgets=[1,3]", "--anytime.self_distillation=1")
    content = load_checkpoint(folder / "best.pt")
    assert content["config"]["anytime"]["budgets"] == [1, 3]
    nodes = {
        name.split(".norms.")[1].split(".")[0] for name in content["model"] if ".layer1.1.field.norm1.norms." in name
    }
    assert len(nodes) == 6  # midpoint: starts and middles of three steps, and of one, whose middle is among them


def test_steps_without_a_relu_are_no_plain_network(tmp_path):
    train_small(tmp_path, "euler", "--model.backbone_args={channels: [8, 8, 16, 16], solver: euler}")
    done = run("convert", "--run=runs/euler", "--out=never", cwd=tmp_path)
    assert done.returncode == 2 and "its Euler steps have no ReLU after the addition" in done.stderr
    assert not (tmp_path / "never").exists()
