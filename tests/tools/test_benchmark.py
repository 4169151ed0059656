"""The benchmark of the engine: what it refuses, and a part that takes seconds."""

import json

import pytest
from tool_runs import run

from benchmarks.measurement import Claim, Part, times_over
from tools import benchmark


@pytest.mark.slow
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
    broken, kept = benchmark.report("engine", "", {"a part": Part((), claims)}, {}).sections
    assert broken.lines == (str(claims[0]),) and kept.lines == tuple(map(str, claims[1:]))


def test_calls_are_timed_between_those_of_the_reference_and_the_first_round_is_left_out():
    calls, now = [], [0.0]
    times = {"a": 1.0, "b": 3.0, "c": 0.5}
    drift = 1.1  # the machine gets slower and slower

    def call(name):
        calls.append(name)
        now[0] += times[name] * drift ** len(calls) * (100.0 if len(calls) < 5 else 1.0)

    timed = {name: lambda name=name: call(name) for name in times}
    ratios, reference = times_over("a", timed, rounds=3, clock=lambda: now[0])
    assert calls == ["a", "b", "a", "c", "a"] * 4
    assert ratios == {"a": 1.0, "b": pytest.approx(3.0, rel=0.01), "c": pytest.approx(0.5, rel=0.01)}
    assert drift**8 <= reference <= drift**20


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
