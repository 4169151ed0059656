"""Which weights a report is of, where the reports of a run lie, and which settings make an evaluation another one."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from classification.task import ClassificationTask
from depth.task import DepthTask
from detection.task import DetectionTask
from engine.report.files import write_report
from engine.report.records import OTHER_DATA, OVERRIDDEN, UNSTATED, Report
from engine.runs.overrides import OF_TRAINING, STATED, overridden_settings, override_facts
from engine.runs.reports import DIGEST, report_folder, weights_beside, weights_digest
from engine.training.settings import flatten_settings, to_dict


@pytest.fixture
def checkpoint(tmp_path):
    """Weights with a log and a report."""
    path = tmp_path / "run" / "best.pt"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    (path.parent / "log.csv").write_text("epoch\n1\n")
    write_report(Report("run", "run", {DIGEST: weights_digest(path)}, ()), report_folder(path))
    return path


def report_of(checkpoint):
    return report_folder(checkpoint) / "report.json"


@pytest.mark.parametrize("changed", ["best.pt", "log.csv"])
def test_a_report_is_of_the_weights_and_the_log_that_were_there(checkpoint, changed):
    assert weights_beside(report_of(checkpoint)) == checkpoint
    (checkpoint.parent / changed).write_bytes(b"others")
    assert weights_beside(report_of(checkpoint)) is None


def test_the_report_of_a_copied_run_stands_also_from_within_its_folder(checkpoint, tmp_path, monkeypatch):
    copy = shutil.copytree(checkpoint.parent, tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.chdir(copy / "report")
    assert weights_beside(Path("report.json")) == copy / "best.pt"


def test_the_last_weights_have_a_report_of_their_own(checkpoint):
    assert report_folder(checkpoint.with_name("last.pt")).name == "report_last"


def test_every_change_of_settings_has_a_folder_of_its_own(checkpoint):
    folder = report_folder(checkpoint, {"solver": "heun", "steps": 2, "model.score_threshold": 0.5})
    assert folder.name == "report_heun_steps-2_model.score_threshold-0.5"
    changes = [{"data.root": f"/{'deep/' * 80}a"}, {"data.root": f"/{'deep/' * 80}b"}, {"data.root": "a/b"}]
    changes += [{"data.root": "a b"}, {"data.val": ":100"}, {"data.val": "100"}]
    changes.append({f"data.{name}": "long" * 15 for name in ("root", "train", "val", "val_images")})
    names = [report_folder(checkpoint, each).name for each in changes]
    assert len(set(names)) == len(changes) and max(map(len, names)) < 110


def test_settings_that_change_no_figure_make_no_other_evaluation():
    config = DetectionTask.config_class()
    run, data = replace(config.run, seed=3), replace(config.data, train="other", verify=False, workers=9)
    changed = replace(config, run=run, data=data, optim=replace(config.optim, lr=1.0))
    assert overridden_settings(DetectionTask, to_dict(config), changed) == {}
    changed = replace(config, data=replace(config.data, val="test"), optim=replace(config.optim, amp="bfloat16"))
    assert overridden_settings(DetectionTask, to_dict(config), changed) == {
        "data.val": "test",
        "optim.amp": "bfloat16",
    }
    depth = DepthTask.config_class()
    other = replace(depth, eval=replace(depth.eval, protocol="nyu"))
    assert overridden_settings(DepthTask, to_dict(depth), other) == {"eval.protocol": "nyu"}


def test_only_settings_that_no_other_fact_shows_must_agree():
    facts = dict(override_facts({"data.val": "test", "data.exif": "ignore", "model.score_threshold": 0.5}))
    assert facts == {
        OTHER_DATA: "data.val=test, data.exif=ignore",
        OVERRIDDEN: "model.score_threshold=0.5",
        UNSTATED: "data.exif=ignore",
    }


def test_every_setting_that_is_free_or_stated_is_one_of_a_task():
    configs = [task.config_class() for task in (ClassificationTask, DetectionTask, DepthTask)]
    known = [name for config in configs for name, _ in flatten_settings(to_dict(config))]
    known += [group.partition(".")[0] for group in known] + ["data.shapes", "data.scenes", "model.backbone_args"]
    assert {name for name in (*OF_TRAINING, *STATED) if name not in known} == set()
