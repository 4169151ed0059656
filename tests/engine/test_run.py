"""When a report has to be made anew, and where the reports of a run lie."""

import shutil

import pytest

from engine.report.files import write_report
from engine.report.records import Report
from engine.runs.reports import DIGEST, has_report, report_folder, weights_digest


@pytest.fixture
def checkpoint(tmp_path):
    """Weights with a log and a report."""
    path = tmp_path / "run" / "best.pt"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    (path.parent / "log.csv").write_text("epoch\n1\n")
    write_report(Report("run", "run", {DIGEST: weights_digest(path)}, ()), report_folder(path))
    return path


@pytest.mark.parametrize("changed", ["best.pt", "log.csv"])
def test_a_report_is_made_anew_once_the_weights_or_the_log_are_others(checkpoint, changed):
    assert has_report(checkpoint)
    (checkpoint.parent / changed).write_bytes(b"others")
    assert not has_report(checkpoint)


def test_the_report_of_a_copied_run_stands(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint.parent, tmp_path / "copy", copy_function=shutil.copyfile)
    assert has_report(copy / "best.pt")


def test_weights_without_a_report_have_none_and_those_of_another_epoch_have_another(checkpoint):
    last = checkpoint.with_name("last.pt")
    shutil.copyfile(checkpoint, last)
    assert not has_report(last) and report_folder(last).name == "report_last"


def test_every_change_of_settings_has_a_folder_of_its_own(checkpoint):
    folder = report_folder(checkpoint, {"solver": "heun", "steps": 2, "model.score_threshold": 0.5})
    assert folder.name == "report_heun_steps-2_model.score_threshold-0.5"
    long = [report_folder(checkpoint, {"data.root": f"/{'deep/' * 80}{end}"}).name for end in "ab"]
    assert len(set(long)) == 2 and max(map(len, long)) < 100
