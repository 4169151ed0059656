"""The tools on depth: a small run, its report, its predictions and their evaluation."""

import contextlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tool_runs import SMALL_DEPTH as SMALL
from tool_runs import run, train_pair

from depth.data.depth_files import read_depth
from depth.evaluate import Comparison
from depth.task import DepthTask
from engine.report.files import read_report
from engine.runs.cli import config_parser, parse
from engine.runs.run import load_run
from engine.weights.checkpoint import load_checkpoint


def train(cwd, name, *arguments):
    done = run("train", "depth", *SMALL, f"--run.name={name}", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / name


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with one trained run and its report."""
    cwd = tmp_path_factory.mktemp("depth")
    train(cwd, "small")
    done = run("eval", "depth", "--checkpoint=runs/small/best.pt", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd


def values(report, group="accuracy"):
    return {q.name: q.value for q in report.quantities if q.group == group}


@pytest.mark.slow
def test_the_report_has_all_figures_the_baselines_the_protocol_and_pictures(place):
    report = read_report(place / "runs" / "small" / "report")
    pooled = values(report, "accuracy over all pixels")
    assert [f"{name}, pooled" for name in values(report)] == list(pooled)
    assert {"abs_rel", "rmse", "silog", "iRMSE", "sqErrorRel", "delta1"} <= values(report).keys()
    assert {"delta1 of the best constant", "abs_rel of the per-pixel median"} <= values(report, "baselines").keys()
    assert [row[0] for row in report.tables[0].rows] == ["model", "best constant", "per-pixel median"]
    assert report.tables[0].rows[0][1] == values(report)["abs_rel"]
    assert report.facts["protocol"].startswith("raw: all pixels with a measured depth; depths 0.001 to 80 m; no median")
    assert {"latency of backbone", "latency of decoder"} <= values(report, "speed").keys()
    assert values(report, "cost")["NFE"] > 0
    assert [picture.name for picture in report.pictures] == [f"example-{i:05d}" for i in range(4)]
    assert report.curves[0].title == "Relative error over distance (all pixels)"


@pytest.mark.slow
def test_the_log_and_the_report_agree(place):
    best = load_checkpoint(place / "runs" / "small" / "best.pt", task="depth")
    assert best["score"] == values(read_report(place / "runs" / "small" / "report"))["delta1"]


@pytest.mark.slow
def test_an_evaluation_needs_no_training_set(place):
    done = run(
        "eval", "depth", "--checkpoint=runs/small/best.pt", "--data.scenes.train_images=999", "--out=o", cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert not list((place / "runs" / "data").glob("*999*"))


@pytest.mark.slow
def test_by_another_protocol_the_baselines_are_those_of_its_pixels(place):
    found = {}
    for name, protocol in (("raw", "raw"), ("garg", "kitti-eigen-garg")):
        arguments = ["--checkpoint=runs/small/best.pt", f"--eval.protocol={protocol}", f"--out={name}"]
        done = run("eval", "depth", *arguments, cwd=place)
        assert done.returncode == 0, done.stderr
        found[name] = values(read_report(place / name), "baselines")
    config, _ = parse(config_parser(DepthTask, ""), DepthTask, [*SMALL, "--eval.protocol=kitti-eigen-garg"])
    with contextlib.chdir(place):
        fresh = DepthTask(config).results(lambda i, x, truth: torch.full((1, 1), 9.0), baselines=True)
    expected = Comparison(config.eval, max_depth=80.0).metrics(fresh).averaged["per-pixel median"]["delta1"]
    assert found["garg"]["delta1 of the per-pixel median"] == pytest.approx(expected)
    assert found["garg"] != found["raw"]


@pytest.mark.slow
def test_predictions_in_files_are_scored_as_the_model_that_made_them(place):
    images = place / "runs" / "data" / "road_val_4x32x64px_seed1" / "rgb"
    intrinsics = "--predict.intrinsics=[40,40,32,16]"
    predict = ["predict", "depth", "--checkpoint=runs/small/best.pt", f"--input={images}", "--out=found", intrinsics]
    done = run(*predict, cwd=place)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (place / "found").iterdir()}
    for stem in ("000001", "000004"):
        assert {f"{stem}.png", f"{stem}_depth.png", f"{stem}_depth.npy", f"{stem}_points.ply"} <= made
    exact, rounded = (read_depth(place / "found" / f"000001_depth.{kind}", unit="m/256") for kind in ("npy", "png"))
    assert np.abs(exact - rounded).max() <= 1 / 512 + 1e-6
    with Image.open(place / "found" / "000001.png") as picture:
        assert picture.width == 64 and picture.height > 2 * 32, "image, depth and scale"
    facts = json.loads((place / "found" / "results.json").read_text())
    assert facts[0]["file_name"] == "000001.png"
    assert facts[0]["greatest_m"] == pytest.approx(exact.max())
    done = run("eval", "depth", "--predictions=found", *SMALL, "--out=scored", cwd=place)
    assert done.returncode == 0, done.stderr
    scored = values(read_report(place / "scored"))
    assert scored == pytest.approx(values(read_report(place / "runs" / "small" / "report")), rel=1e-6)


@pytest.mark.slow
def test_a_run_starts_from_another_ones_weights(place):
    start = ["--model.checkpoint=runs/small/best.pt", "--optim.lr=0", "--optim.epochs=1", "--data.augment=none"]
    ours = load_checkpoint(train(place, "started", *start) / "best.pt", task="depth")["model"]
    theirs = load_checkpoint(place / "runs" / "small" / "best.pt", task="depth")["model"]
    parameters = [name for name in theirs if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(ours[name], theirs[name]) for name in parameters)
    other = run("train", "depth", *SMALL, *start, "--run.name=x", "--model.decoder_width=8", cwd=place)
    assert other.returncode == 2
    assert "runs/small/best.pt: the weights of another model" in other.stderr


@pytest.mark.slow
def test_a_model_of_one_size_predicts_and_evaluates_at_the_images_own(place):
    train(place, "sized", "--data.size=[32,32]", "--optim.epochs=1", "--eval.flip=true")
    done = run("eval", "depth", "--checkpoint=runs/sized/best.pt", cwd=place)
    assert done.returncode == 0, done.stderr
    facts = read_report(place / "runs" / "sized" / "report").facts
    assert facts["image size"] == "32x32 px" and facts["speed measured at"] == "batch 1, 32x32 px"
    assert facts["protocol"].endswith("averaged with the mirror image's prediction")


def test_averaging_with_the_mirror_image_commutes_with_mirroring(place):
    image = torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(0))
    found = {}
    for flip in ("false", "true"):
        config, _ = parse(config_parser(DepthTask, ""), DepthTask, [*SMALL, f"--eval.flip={flip}"])
        loaded = load_run(DepthTask, config, place / "runs" / "small" / "best.pt")
        found[flip] = [loaded.task.infer(loaded.model, x, loaded.device) for x in (image, image.flip(-1))]
    once, mirrored = found["false"]
    assert not torch.allclose(once, mirrored.flip(-1), rtol=1e-4), "this model does not tell left from right"
    for averaged, expected in zip(found["true"], (once + mirrored.flip(-1), mirrored + once.flip(-1)), strict=True):
        torch.testing.assert_close(averaged, expected / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_whole_numbers_are_scored_in_the_unit_that_they_were_written_in(place):
    scene = [*SMALL, "--data.scenes.preset=room", "--model.max_depth=10"]
    done = run("train", "depth", *scene, "--run.name=room", "--optim.epochs=1", cwd=place)
    assert done.returncode == 0, done.stderr
    images = place / "runs" / "data" / "room_val_4x32x64px_seed1" / "rgb"
    done = run("predict", "depth", "--checkpoint=runs/room/best.pt", f"--input={images}", "--out=rooms", cwd=place)
    assert done.returncode == 0, done.stderr
    for exact in (place / "rooms").glob("*.npy"):
        exact.unlink()
    done = run("eval", "depth", "--predictions=rooms", *scene, "--eval.flip=true", "--out=rooms_scored", cwd=place)
    assert done.returncode == 0, done.stderr
    report = read_report(place / "rooms_scored")
    assert report.facts["predictions"] == "rooms; whole numbers in mm"
    assert "mirror" not in report.facts["protocol"]
    assert run("eval", "depth", "--checkpoint=runs/room/best.pt", cwd=place).returncode == 0
    exact = values(read_report(place / "runs" / "room" / "report"))
    assert values(report)["abs_rel"] == pytest.approx(exact["abs_rel"], rel=0.01)


def test_images_that_differ_by_their_ending_only_keep_their_results_apart(place):
    folder = place / "twins"
    folder.mkdir()
    for suffix in ("png", "jpg"):
        Image.new("RGB", (64, 32)).save(folder / f"a.{suffix}")
    done = run("predict", "depth", "--checkpoint=runs/small/best.pt", "--input=twins", "--out=t", cwd=place)
    assert done.returncode == 0, done.stderr
    found = {path.name for path in (place / "t").iterdir()}
    assert {"a.jpg", "a_depth.npy", "a.png", "a.png_depth.npy", "a.png_depth.png"} <= found


@pytest.mark.slow
def test_runs_are_compared(place):
    train(place, "discrete", "--model.backbone=resnet18", "--loss.gradient=0.5")
    done = run("compare", "runs/discrete", "runs/small", "--out=comparison", "--repeats=1", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "delta1 of the per-pixel median" in done.stdout
    report = read_report(place / "comparison")
    assert not any("not comparable" in note for note in report.notes)
    assert {curve.label for curve in report.curves} == {"discrete", "small"}


@pytest.mark.slow
def test_a_run_with_the_same_seed_has_the_same_weights_wherever_its_pairs_are_kept(place):
    folders = [
        train(place, f"kept_{kept}", "--data.augment=scale", f"--data.in_memory={kept}") for kept in (True, False)
    ]
    first, second = (load_checkpoint(folder / "last.pt", task="depth")["model"] for folder in folders)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["eval", "depth", "--predictions=found", "--checkpoint=runs/small/best.pt", "--out=o"],
            "--predictions and --checkpoint: give one of them",
        ),
        (["eval", "detection", "--predictions=found", "--out=o"], "--predictions: not for detection, but for: depth"),
        (["eval", "depth", "--predictions=none", *SMALL, "--out=o"], "none: no such folder; give one with a .npy"),
        (["train", "depth", "--data.format=folder", "--data.root=."], "rgb: no such folder; set data.root, data.rgb"),
        (["train", "depth", "--eval.protocol=kitti"], "unknown eval.protocol 'kitti'; did you mean 'kitti-eigen'"),
        (["train", "depth", "--predict.unit=inch"], "predict.unit='inch': expected mm, cm"),
        (["train", "depth", *SMALL, "--data.scenes.preset=street"], "unknown preset"),
        (
            ["train", "depth", *SMALL, "--run.name=x", "--data.crop=[64,64]"],
            "data.crop=[64, 64] is larger than an image",
        ),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(place, arguments, message):
    done = run(*arguments, cwd=place)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_evaluate_each_image_once(place):
    settings = [*SMALL, "--optim.batch_size=1", "--optim.epochs=1", "--data.scenes.val_images=5", "--run.name=pair"]
    train_pair("depth", *settings, cwd=place, port=29547)
    logged = load_checkpoint(place / "runs" / "pair" / "best.pt", task="depth")["score"]
    done = run("eval", "depth", "--checkpoint=runs/pair/best.pt", cwd=place)
    assert done.returncode == 0, done.stderr
    report = read_report(place / "runs" / "pair" / "report")
    assert report.facts["images"] == "5"
    assert values(report)["delta1"] == pytest.approx(logged)


def test_a_protocol_that_the_images_do_not_suit_stops_the_run_before_its_training(tmp_path):
    done = run("train", "depth", *SMALL, "--eval.protocol=nyu", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ") and "nyu" in done.stderr
    assert "epoch 1" not in done.stdout + done.stderr and not (tmp_path / "runs" / "run").exists()
