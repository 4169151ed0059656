"""When a report has to be made anew."""

import os

import pytest

from engine.runs.run import has_report, report_folder


@pytest.mark.parametrize(("newer", "stands"), [((), True), (("best.pt",), False), (("log.csv",), False)])
def test_a_report_is_made_anew_once_the_weights_or_the_log_are_newer(tmp_path, newer, stands):
    checkpoint = tmp_path / "best.pt"
    report = report_folder(checkpoint) / "report.json"
    report.parent.mkdir()
    for file in (checkpoint, tmp_path / "log.csv", report):
        file.touch()
        os.utime(file, (1000, 3000 if file.name in newer else 2000))
    assert has_report(checkpoint) == stands


def test_weights_without_a_report_have_none_and_those_of_another_epoch_have_another(tmp_path):
    best, last = tmp_path / "best.pt", tmp_path / "last.pt"
    for file in (best, last):
        file.touch()
    report_folder(best).mkdir()
    (report_folder(best) / "report.json").touch()
    assert has_report(best) and not has_report(last)
