"""The benchmark of the engine: what it refuses, and a part that takes seconds."""

import json

import pytest
from tool_runs import run

from tools import benchmark
from tools.engine_benchmark import Claim, Part
from tools.engine_benchmark.claims import fastest_ratio, interleaved


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


def test_a_claim_says_whether_it_holds_and_the_report_begins_with_those_that_do_not():
    claims = (Claim("a ratio", 0.5, 0.4), Claim("a saving", 9.0, 9.0, at_least=True), Claim("another", 0.4, 0.5))
    assert [str(claim) for claim in claims] == [
        "FAILS: a ratio: 0.5 (bound <= 0.4)",
        "holds: a saving: 9 (bound >= 9)",
        "holds: another: 0.4 (bound <= 0.5)",
    ]
    broken, kept = benchmark.report({"a part": Part((), claims)}, {}).sections
    assert broken.lines == (str(claims[0]),) and kept.lines == tuple(map(str, claims[1:]))


def test_calls_are_timed_in_turn_and_the_first_round_is_left_out():
    calls, ticks = [], iter(range(100))
    timed = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = interleaved(timed, rounds=2, clock=lambda: next(ticks) ** 2)
    assert calls == ["a", "b"] * 3
    assert times == {"a": [9 - 4, 49 - 36], "b": [25 - 16, 81 - 64]}
    assert fastest_ratio(times["b"], times["a"]) == 9 / 5


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
