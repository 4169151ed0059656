import csv
import shutil
import signal
import subprocess
import time

import pytest
import torch
import yaml
from tool_runs import SMALL, command, environment, run, train_pair, train_small

from engine.weights.checkpoint import load_checkpoint

CHECKPOINTS = ("last.pt", "best.pt")


def weights(folder):
    return load_checkpoint(folder / "last.pt", task="detection")["model"]


def history(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_writes_its_config_its_log_and_its_checkpoints(trained):
    folder = trained / "runs" / "small"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"config.yaml", "log.csv", *CHECKPOINTS}
    assert yaml.safe_load((folder / "config.yaml").read_text())["optim"]["epochs"] == 2
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1.0", "2.0"]
    assert {"loss_classifier", "lr", "images_per_s", "AP", "f1"} <= rows[0].keys()
    best = load_checkpoint(folder / "best.pt", task="detection")
    assert best["metadata"]["classes"] == ["circle", "cross", "ring", "square", "star", "triangle"]
    assert best["score"] == max(float(row["AP"]) for row in rows)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_weights_of_one_that_was_not(tmp_path):
    extra = ["--optim.epochs=3", "--optim.ema_decay=0.9", "--data.shapes.train_images=40"]
    whole = train_small(tmp_path, "whole", *extra)
    killed = tmp_path / "runs" / "killed"
    process = subprocess.Popen(
        command("train", "detection", *SMALL, "--run.name=killed", *extra),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (killed / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)  # into the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(history(killed)) < 3, "the run ended before it could be killed"
    train_small(tmp_path, "killed", *extra, "--run.resume=true")
    resumed, expected = (load_checkpoint(f / "last.pt", task="detection") for f in (killed, whole))
    for part in ("model", "ema"):
        assert all(torch.equal(resumed[part][key], expected[part][key]) for key in expected[part])
    assert [row["AP"] for row in history(killed)] == [row["AP"] for row in history(whole)]


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates_and_evaluate_each_image_once(tmp_path):
    settings = [*SMALL, "--optim.batch_size=1", "--run.seed=3", "--model.score_threshold=0"]
    train_pair("detection", *settings, "--run.name=pair", cwd=tmp_path, port=29541)
    alone = train_small(tmp_path, "alone", *settings, "--optim.accumulate=2")
    pair = tmp_path / "runs" / "pair"
    ours, expected = weights(pair), weights(alone)
    for name in expected:
        if "running" not in name and expected[name].is_floating_point():  # each process counts its own batches
            torch.testing.assert_close(ours[name], expected[name], rtol=1e-4, atol=1e-6)
    logged = float(history(pair)[-1]["AP"])
    assert logged > 0, "no detection was right: an image counted twice would not show"
    done = run("eval", "detection", "--checkpoint=runs/pair/last.pt", "--out=report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = yaml.safe_load((tmp_path / "report" / "report.json").read_text())
    assert {q["name"]: q["value"] for q in report["quantities"]}["AP"] == logged


@pytest.mark.slow
def test_two_processes_that_draw_budgets_of_their_own_train_as_one_that_accumulates(tmp_path):
    blocks = "--model.backbone_args={channels: [8, 8, 16, 16], solver: euler, steps: 3, bases: 3}"
    settings = [*SMALL, blocks, "--anytime.budgets=[1,3]", "--anytime.self_distillation=1", "--optim.epochs=1"]
    train_pair("detection", *settings, "--run.name=pair", cwd=tmp_path, port=29543)
    expected = weights(train_small(tmp_path, "alone", *settings, "--optim.accumulate=2"))
    ours = weights(tmp_path / "runs" / "pair")
    for name in expected:
        if "running" not in name and expected[name].is_floating_point():
            torch.testing.assert_close(ours[name], expected[name], rtol=1e-4, atol=1e-6)


def test_a_run_that_exists_is_not_overwritten_and_other_settings_do_not_resume_it(trained):
    folder = trained / "runs" / "small"
    before = {name: (folder / name).read_bytes() for name in ("config.yaml", "log.csv", *CHECKPOINTS)}
    again = run("train", "detection", *SMALL, "--run.name=small", cwd=trained)
    assert again.returncode == 2
    assert "this run exists; pass --run.resume true" in again.stderr
    other = run("train", "detection", *SMALL, "--run.name=small", "--run.resume=true", "--optim.lr=0.02", cwd=trained)
    assert other.returncode == 2
    assert "optim.lr was 0.01, is 0.02" in other.stderr
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_resuming_needs_the_checkpoint_and_the_classes_of_before(trained, tmp_path):
    shutil.copytree(trained / "runs" / "small", tmp_path / "runs" / "small")
    content = load_checkpoint(tmp_path / "runs/small/last.pt")
    classes = content["metadata"]["classes"]
    content["metadata"]["classes"] = classes[::-1]
    torch.save(content, tmp_path / "runs/small/last.pt")
    resumed = ("train", "detection", *SMALL, "--run.name=small", "--run.resume=true", "--optim.epochs=3")
    done = run(*resumed, cwd=tmp_path)
    assert done.returncode == 2
    assert "trained on the classes triangle, star, " in done.stderr
    assert "in this order, the data have circle, cross, " in done.stderr
    (tmp_path / "runs/small/last.pt").unlink()
    best = (tmp_path / "runs/small/best.pt").read_bytes()
    done = run(*resumed, cwd=tmp_path)
    assert done.returncode == 2
    assert "a run without last.pt, from which to go on, but with best.pt and log.csv" in done.stderr
    assert (tmp_path / "runs/small/best.pt").read_bytes() == best


def test_a_home_folder_is_found_where_no_shell_puts_it_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run("train", "detection", "--data.format=voc", "--data.root=~/nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}/nowhere: no such folder" in done.stderr
