"""The benchmark of the engine: what it refuses, and a part that takes seconds."""

import json

import pytest
from tool_runs import run


def test_a_part_is_measured_and_reported(tmp_path):
    done = run("benchmark", "engine", "--parts=convergence", "--out=found", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "found" / "report.json").read_text())
    broken, kept = report["sections"]
    assert broken["lines"] == ["None."] and len(kept["lines"]) == 3
    assert all(line in done.stdout and line.startswith("holds: ") for line in kept["lines"])
    orders = {row[0]: row[1:] for row in report["tables"][0]["rows"]}
    assert orders["rk4"] == pytest.approx([4, 4, 4, 4], abs=0.1)
    assert (tmp_path / "found" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--parts=convergense"], ["convergense", "convergence"]),
        (["--rounds=0"], ["--rounds 0", "at least 1"]),
        (["--threads=0"], ["--threads 0", "at least 1"]),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(tmp_path, arguments, words):
    done = run("benchmark", "engine", *arguments, cwd=tmp_path)
    assert done.returncode != 0 and not list(tmp_path.iterdir())
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
