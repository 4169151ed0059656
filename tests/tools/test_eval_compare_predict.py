import contextlib
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tool_runs import run, train_small

from detection.coco_evaluation import COCO_NAMES
from detection.task import DetectionTask
from engine.runs.cli import config_arguments, config_parser, parse
from engine.runs.run import load_run
from engine.weights.checkpoint import load_checkpoint
from tools.tasks import TASKS


@pytest.fixture(scope="module")
def evaluated(trained):
    done = run("eval", "detection", "--checkpoint=runs/small/best.pt", cwd=trained)
    assert done.returncode == 0, done.stderr
    return trained / "runs" / "small" / "report"


def quantities(folder):
    return {q["name"]: q["value"] for q in json.loads((folder / "report.json").read_text())["quantities"]}


@pytest.mark.slow
def test_the_report_holds_accuracy_cost_and_speed_and_says_that_it_ran_on_the_cpu(evaluated):
    found = quantities(evaluated)
    expected = {*COCO_NAMES, "precision (macro)", "recall (macro)", "F1 (macro)", "parameters", "MACs", "NFE"}
    expected |= {"parameters of backbone", "MACs of backbone", "latency median", "latency p90", "images/s"}
    expected |= {f"latency of {part}" for part in ("backbone", "neck", "RPN", "RoI heads", "post-processing and rest")}
    assert expected <= found.keys()
    assert found["NFE"] == 8
    assert 0 < found["proposals"] <= 30
    assert 0 < found["MACs of backbone"] < found["MACs"]
    assert 0 < found["training memory of backbone, batch 2"] <= found["training memory, batch 2"]
    report = json.loads((evaluated / "report.json").read_text())
    assert report["facts"]["device"] == "cpu"
    assert any("cpu" in note for note in report["notes"])
    assert "tools/eval.py detection --checkpoint" in report["facts"]["command"]


def test_the_report_in_html_embeds_its_pictures(evaluated):
    page = (evaluated / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5 + 2  # the images of the set, and two plots
    assert len(list((evaluated / "pictures").glob("example-*.png"))) == 5


def test_pycocotools_by_hand_gives_the_twelve_numbers_of_the_report(evaluated):
    truth = COCO(str(evaluated / "ground_truth.json"))
    detections = json.loads((evaluated / "predictions.json").read_text())
    assert detections, "the small run detects nothing: this test would show nothing"
    by_hand = COCOeval(truth, truth.loadRes(str(evaluated / "predictions.json")), "bbox")
    by_hand.evaluate()
    by_hand.accumulate()
    by_hand.summarize()
    found = quantities(evaluated)
    expected = [None if value < 0 else value for value in by_hand.stats]
    assert [found[name] for name in COCO_NAMES] == expected


@pytest.mark.slow
def test_measuring_leaves_the_model_as_it_was(trained):
    task = TASKS["detection"]
    checkpoint = trained / "runs" / "small" / "best.pt"
    with contextlib.chdir(trained):
        config, _ = parse(config_parser(task, ""), task, config_arguments(load_checkpoint(checkpoint)))
        loaded = load_run(task, config, checkpoint)
        before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
        loaded.task.report(loaded.model, loaded.device)
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


@pytest.mark.slow
def test_compare_sets_runs_side_by_side_with_ratios_to_the_first(trained):
    train_small(trained, "discrete", "--model.backbone=resnet18", "--optim.epochs=1")
    done = run("compare", "runs/discrete", "runs/small", "--out=comparison", "--repeats=3", cwd=trained)
    assert done.returncode == 0, done.stderr
    ours, theirs = (quantities(trained / "runs" / name / "report") for name in ("small", "discrete"))
    report = json.loads((trained / "comparison" / "report.json").read_text())
    [cost] = [table for table in report["tables"] if table["title"] == "Cost"]
    assert cost["columns"][1:] == ["discrete", "small"]
    [row] = [row for row in cost["rows"] if row[0].startswith("parameters of backbone")]
    assert row[2]["value"] == ours["parameters of backbone"]
    assert row[2]["ratio"] == pytest.approx(ours["parameters of backbone"] / theirs["parameters of backbone"])
    assert any("took turns for 3 rounds" in note for note in report["notes"])
    assert "comparison/report.html" in done.stdout
    assert "latency median" in done.stdout


@pytest.mark.slow
def test_an_evaluation_with_other_settings_has_a_folder_of_its_own_and_is_not_compared(trained, evaluated):
    before = (evaluated / "report.json").read_text()
    done = run("eval", "detection", "--checkpoint=runs/small", "--model.score_threshold=0.5", cwd=trained)
    assert done.returncode == 0, done.stderr
    changed = evaluated.with_name("report_model.score_threshold-0.5")
    facts = json.loads((changed / "report.json").read_text())["facts"]
    assert facts["evaluated with"] == "model.score_threshold=0.5" and "of a score of at least 0.5" in facts["protocol"]
    assert (evaluated / "report.json").read_text() == before
    reports = [str(folder.relative_to(trained)) for folder in (evaluated, changed)]
    done = run("compare", *reports, "--out=by_report", cwd=trained)
    assert done.returncode == 0, done.stderr
    comparison = json.loads((trained / "by_report" / "report.json").read_text())
    assert comparison["tables"][0]["columns"] == ["quantity", "small report", f"small {changed.name}"]
    assert "Accuracy figures are not comparable" in comparison["notes"][0]
    assert any(f"could be measured again in turn: small {changed.name} without" in n for n in comparison["notes"])
    judged = [line for section in comparison["sections"][:2] for line in section["lines"]]
    assert not any(line.startswith(("latency", "images/s")) for line in judged)


@pytest.mark.slow
def test_a_report_on_other_images_is_compared_with_its_speed_measured_again(trained, evaluated):
    done = run("eval", "detection", "--checkpoint=runs/small", "--data.shapes.val_images=4", cwd=trained)
    assert done.returncode == 0, done.stderr
    names = ["runs/small", "runs/small/report_data.shapes.val_images-4"]
    done = run("compare", *names, "--out=other_images", "--repeats=6", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "in turn for 6 rounds" in done.stdout and "(accuracy: can't be)" in done.stdout


@pytest.mark.slow
def test_what_can_not_be_compared_is_refused_and_a_report_alone_can(trained, evaluated):
    shutil.copytree(evaluated, trained / "elsewhere")
    done = run("compare", "runs/small/best.pt", "elsewhere", "--out=mixed", cwd=trained)
    assert done.returncode == 0, done.stderr
    for arguments, told in (
        (["runs/small", "runs/small/best.pt", "--out=twice"], "named more than once"),
        (["runs/small", "mixed", "--out=nested"], "mixed: a comparison, which has no figures of its own"),
        (["runs/small", "elsewhere", "--out=elsewhere"], "elsewhere: holds the report of small; take another folder"),
    ):
        refused = run("compare", *arguments, cwd=trained)
        assert refused.returncode == 2 and told in refused.stderr


@pytest.mark.slow
def test_an_evaluation_is_refused_where_it_would_replace_another_or_change_nothing(trained, evaluated, tmp_path):
    other = json.loads((evaluated / "report.json").read_text()) | {"name": "other", "pictures": [], "headline": []}
    (tmp_path / "report.json").write_text(json.dumps(other))
    for arguments, told in (
        ([f"--out={tmp_path}"], "holds the report of other; take another folder"),
        (["--out=runs/small"], "--out runs/small: the folder of a run; take another"),
        (["--data.val=test"], "data.val: without effect on generated images; --data.shapes.seed draws others"),
    ):
        done = run("eval", "detection", "--checkpoint=runs/small", *arguments, cwd=trained)
        assert done.returncode == 2 and told in done.stderr
    (tmp_path / "report.json").write_text("{")
    done = run("eval", "detection", "--checkpoint=runs/small", f"--out={tmp_path}", cwd=trained)
    assert done.returncode == 0, done.stderr  # a damaged report is no loss


@pytest.mark.slow
def test_a_report_of_an_earlier_version_is_replaced_only_if_nothing_is_lost(trained, evaluated, tmp_path):
    copy = shutil.copytree(trained / "runs" / "small", tmp_path / "small")
    report = json.loads((copy / "report" / "report.json").read_text())
    del report["facts"]["digest of the weights"]
    point = {"solver": "euler", "steps": 1, "tolerance": None, "figures": {"AP": 0.1}}
    for points, told in (([point], "would remove"), ([], "of an earlier version; evaluated anew")):
        (copy / "report" / "report.json").write_text(json.dumps(report | {"points": points}))
        done = run("compare", copy, "runs/small", "--repeats=0", f"--out={tmp_path / 'out'}", cwd=trained)
        assert told in done.stdout + done.stderr


@pytest.mark.slow
def test_predict_draws_and_writes_what_it_finds_in_a_folder_and_in_a_video(trained):
    [images] = trained.glob("runs/data/shapes_val_5x*/images")
    threshold = "--model.score_threshold=0.01"
    common = ["detection", "--checkpoint=runs/small/best.pt", threshold]
    done = run("predict", *common, f"--input={images}", "--out=stills", cwd=trained)
    assert done.returncode == 0, done.stderr
    found = json.loads((trained / "stills" / "results.json").read_text())
    assert [entry["file_name"] for entry in found] == sorted(path.name for path in images.iterdir())
    assert any(entry["boxes"] for entry in found)
    for entry in found:
        assert len(entry["boxes"]) == len(entry["labels"]) == len(entry["scores"])
        assert (trained / "stills" / entry["file_name"]).is_file()
    video = cv2.VideoWriter(str(trained / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, (64, 64))
    for i in range(4):
        video.write(np.full((64, 64, 3), 50 * i, np.uint8))
    video.release()
    done = run("predict", *common, "--input=in.mp4", "--out=moving", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((trained / "moving" / "results.json").read_text())) == 4
    assert cv2.VideoCapture(str(trained / "moving" / "in.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 4


def test_predict_passes_over_what_it_cannot_read_and_shows_what_the_best_f1_was_of(trained, tmp_path, caplog):
    shutil.copytree(trained / "runs" / "small", tmp_path / "small")
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.bmp", "._a.png"):
        cv2.imwrite(str(tmp_path / "in" / name), np.full((64, 64, 3), 90, np.uint8))
    (tmp_path / "in" / "z.jpg").write_text("no image")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    cv2.imwrite(str(tmp_path / "in" / "thin.png"), np.full((2, 1200, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "one.png"), np.full((64, 64, 3), 90, np.uint8))
    arguments = ["--checkpoint=small", "--input", "in", "one.png", "--out=out"]
    done = run("predict", "detection", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "passed over: 1 hidden files, 1 files ending in .txt" in caplog.text
    assert "z.jpg: no image, or a damaged one" in caplog.text
    assert "passed over: thin.png: 1200x2 px, too thin for sides of 64 to 64 px" in caplog.text
    assert done.stdout.startswith("frames: 3 with ")
    assert "files passed over as they could not be read: 2" in done.stdout
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["file_name"] for entry in found] == ["a.png", "b.bmp", "one.png"]
    confidence = load_checkpoint(tmp_path / "small" / "best.pt")["metrics"]["confidence"]
    threshold = max(0.05, confidence)
    assert all(score >= threshold for entry in found for score in entry["scores"])
    assert DetectionTask.predict_settings({"confidence": 0.37}) == {"model.score_threshold": 0.37}
    assert DetectionTask.predict_settings({}) == {"model.score_threshold": 0.5}


def test_what_was_found_is_written_whatever_ends_a_prediction(trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "runs" / "small", tmp_path / "small")
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "in" / name), np.full((64, 64, 3), 90, np.uint8))
    works, calls = DetectionTask.predict, []

    def interrupted(self, model, image, device):
        calls.append(image)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return works(self, model, image, device)

    monkeypatch.setattr(DetectionTask, "predict", interrupted)
    done = run("predict", "detection", "--checkpoint=small", "--input=in", "--out=out", cwd=tmp_path)
    assert done.returncode == 130
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["file_name"] for entry in found] == ["a.png"]


@pytest.mark.slow
def test_predict_needs_no_data_set(trained, tmp_path):
    shutil.copy(trained / "runs" / "small" / "best.pt", tmp_path)
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((80, 100, 3), np.uint8))
    done = run("predict", "detection", "--checkpoint=best.pt", "--input=one.png", "--out=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one.png", "results.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "one.png", "out"}
