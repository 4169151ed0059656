"""Several seeds of one model: trained one after another, and one column of a comparison."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tool_runs import SMALL, run, train_small

from detection.task import DetectionTask
from engine.config import RunConfig
from engine.report.files import read_report
from engine.report.records import UNFINISHED, Quantity, Report
from engine.report.seeds import join_seeds
from engine.runs.compare import Entry, column_name, copy_notes, distinct_names, is_another_seed, seed_notes
from engine.runs.reports import DIGEST
from odebackbones.errors import InputError
from tools.compare import require_one_task


@pytest.mark.slow
def test_seeds_are_trained_one_after_another_and_compared_as_one(tmp_path):
    train_small(tmp_path, "plain", "--model.backbone=resnet18", "--model.score_threshold=0")
    done = run("train", "detection", *SMALL, "--run.name=ode", "--run.seeds=[0,3]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = run("train", "detection", *SMALL, "--run.name=ode", "--run.seeds=[0,3]", "--run.resume=true", cwd=tmp_path)
    assert again.returncode == 0 and "nothing is left to do" in again.stdout + again.stderr
    late = run("train", "detection", *SMALL, "--run.name=ode", "--run.seeds=[7,3]", cwd=tmp_path)
    assert late.returncode == 2 and "ode_seed3: this run exists" in late.stderr
    assert not (tmp_path / "runs/ode_seed7").exists()  # it shows before the first is trained
    names = [f"runs/{name}" for name in ("plain", "ode_seed0", "ode_seed3")]
    done = run("compare", *names, "--repeats=1", "--out=runs/comparison", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    comparison = read_report(tmp_path / "runs/comparison")
    alone = run("compare", *names[1:], "--repeats=0", "--out=runs/alone", cwd=tmp_path)
    assert alone.returncode == 2 and "ode_seed0, ode_seed3: seeds of one model" in alone.stderr
    assert comparison.tables[0].columns == ("quantity", "plain", "ode (2 seeds)")
    [seeds] = [table for table in comparison.tables if table.title == "Seeds of ode (2 seeds)"]
    assert seeds.columns == ("quantity", "ode_seed0", "ode_seed3", "mean", "range")
    values = {row[0]: row[1:] for row in seeds.rows}
    one, other, mean, spread = values["AP"]
    assert (mean, spread) == pytest.approx(((one + other) / 2, abs(one - other)))
    assert ("seed", "0", "0, 3") in [row for table in comparison.tables for row in table.rows]


def test_costs_that_are_equal_stay_whole_numbers_and_others_are_averaged():
    reports = [
        Report(
            "a", "a", {"seed": str(i)}, (Quantity("parameters", 10), Quantity("latency", float(i), "ms", group="speed"))
        )
        for i in range(3)
    ]
    joined = join_seeds(reports)
    assert [q.value for q in joined.quantities] == [10, 1.0] and joined.facts["seed"] == "0, 1, 2"
    assert join_seeds(reports[:1]) is reports[0]


def test_what_is_said_of_one_seed_is_said_of_all():
    finished, other = (
        Report("a", "a", {"seed": "0"}, ()),
        Report("a", "a", {"seed": "1", UNFINISHED: "2 of 9"}, (), notes=("n",)),
    )
    joined = join_seeds([finished, other])
    assert joined.facts == {"seed": "0, 1", UNFINISHED: "2 of 9"} and joined.notes[0] == "n"


def seeds_of(name, *seeds):
    return [
        SimpleNamespace(
            name=f"{name}{seed}",
            run=SimpleNamespace(task=SimpleNamespace(config=SimpleNamespace(run=SimpleNamespace(seed=seed)))),
        )
        for seed in seeds
    ]


@pytest.mark.parametrize(
    ("runs", "name"),
    [
        (seeds_of("ode_seed", 10, 11), "ode (2 seeds)"),
        (seeds_of("seed", 0, 1), "seed0 (2 seeds)"),
        (seeds_of("a", 0) + seeds_of("b", 1), "a0 (2 seeds)"),
        (seeds_of("bccd_2", 0, 1), "bccd_2 (2 seeds)"),
        (seeds_of("ode_seed", 3), "ode_seed3"),
    ],
)
def test_a_column_has_the_name_that_the_seeds_share(runs, name):
    assert column_name(runs) == name


def test_joined_accuracy_without_common_resamples_has_no_interval():
    reports = [Report("a", "a", {}, (Quantity("AP", ap, interval=(ap - 0.1, ap + 0.1)),)) for ap in (0.2, 0.8)]
    [joined] = join_seeds(reports).quantities
    assert (joined.value, joined.interval) == (0.5, None)


def entry(name, **facts):
    return Entry(name, Report(name, name, facts, ()))


def test_notes_say_what_intervals_hold_and_which_weights_are_the_same():
    assert seed_notes(["a", "b"], [1, 1])[0].startswith("Intervals hold the choice of the images, not the variation of")
    single, pair = seed_notes(["a", "b", "c"], [1, 2, 3])
    assert single.startswith("a: one seed") and pair.startswith("b: two seeds")
    digests = {DIGEST: "0123"}
    assert copy_notes([entry("a", **digests), entry("b"), entry("c", **digests)]) == ["a, c: the same weights."]


def test_columns_have_different_names(tmp_path):
    paths = [tmp_path / folder / "run" / "best.pt" for folder in "xy"]
    assert distinct_names(paths) == ["run", "run (2)"]
    assert distinct_names([paths[0], paths[0].with_name("last.pt")]) == ["run best", "run last"]
    with pytest.raises(InputError, match="named more than once"):
        distinct_names([paths[0], paths[0].parent / ".." / "run" / "best.pt"])


def test_reports_of_several_tasks_are_refused():
    with pytest.raises(InputError, match="a is of detection, b is of depth"):
        require_one_task([entry("a", task="detection"), entry("b", task="depth"), entry("old")])


@pytest.mark.parametrize(("changed", "joined"), [({}, True), ({"data set": "fog"}, False), ({"solver": "rk4"}, False)])
def test_only_seeds_that_were_evaluated_alike_are_joined(changed, joined):
    def seed(number, facts):
        config = DetectionTask.config_class(run=RunConfig(seed=number))
        task = SimpleNamespace(config=config, free_settings=DetectionTask.free_settings)
        return Entry(
            "a", Report("a", "a", facts, ()), SimpleNamespace(task=task, facts={}, checkpoint=Path("a/best.pt"))
        )

    assert is_another_seed(seed(0, {}), seed(1, changed)) == joined
    assert not is_another_seed(seed(1, {}), seed(1, {}))
