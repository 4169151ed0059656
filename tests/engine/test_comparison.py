"""Comparisons: ratios and verdicts on hand-made numbers, and losses said first."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from engine.measure.resampling import difference_interval
from engine.report.comparison import compare_reports, comparison_table
from engine.report.files import read_report, write_report
from engine.report.records import CONTROL, UNSTATED, Compared, Curve, Picture, Quantity, Report, Resamples
from engine.report.verdicts import compare_quantity
from odebackbones.errors import InputError

FACTS = {"device": "cpu", "threads": "2", "data set": "shapes", "image size": "320", "model": "resnet101"}


def resamples(ap, *, spread=0.01, **changes):
    """AP50 in resamples of the same images, with the same deviations for every run."""
    deviations = np.random.default_rng(0).normal(0, spread, 1000)
    kept = {"digest": "of the images", "images": 100, "values": {"AP50": ap}, "figures": {"AP50": ap + deviations}}
    return Resamples(**{**kept, **changes})


def run(name, ap, latency, parameters, **changes):
    report = Report(
        name=name,
        title=f"Detection, {name}",
        facts=FACTS | {"model": name},
        quantities=(
            Quantity("latency median", latency, "ms", "lower", "speed", (latency - 1.0, latency + 1.0)),
            Quantity("AP50", ap, better="higher"),
            Quantity("parameters", parameters, better="lower", group="cost"),
            Quantity("threshold", ap / 2),
        ),
        curves=(Curve("precision over recall", "recall", "precision", (0.0, 1.0), (1.0, ap)),),
        pictures=(Picture("street", "a street", b"png of " + name.encode()),),
        notes=("latency on cpu",),
        resamples=resamples(ap),
    )
    return replace(report, **changes)


RESNET = run("resnet101", 0.50, 40.0, 42_000_000)
ODE = run("ode", 0.40, 20.0, 21_000_000)


@pytest.mark.parametrize(
    ("reference", "value", "better", "expected"),
    [
        (0.5, 0.4, "higher", Compared(0.4, 0.8, "worse")),
        (0.5, 0.6, "higher", Compared(0.6, 1.2, "better")),
        (40.0, 20.0, "lower", Compared(20.0, 0.5, "better")),
        (40.0, 60.0, "lower", Compared(60.0, 1.5, "worse")),
        (40.0, 60.0, "neither", Compared(60.0, 1.5, "")),
        (100.0, 100.5, "lower", Compared(100.5, 1.005, "")),
        (0.0, 0.1, "higher", Compared(0.1, None, "better")),
        (-2.0, -1.0, "higher", Compared(-1.0, None, "better")),
        (None, 1.0, "higher", Compared(1.0)),
        (1.0, None, "higher", Compared(None)),
    ],
)
def test_ratio_and_verdict_follow_the_direction(reference, value, better, expected):
    cell = compare_quantity(*(Quantity("q", each, better=better, group="cost") for each in (reference, value)))
    assert (cell.value, cell.verdict) == (expected.value, expected.verdict)
    assert cell.ratio == pytest.approx(expected.ratio)


def test_one_table_a_group_holds_all_figures_and_ratios():
    comparison = compare_reports([RESNET, ODE])
    assert [table.title for table in comparison.tables] == ["Accuracy", "Cost", "Speed", "Facts that differ"]
    accuracy, cost, speed, _ = comparison.tables
    assert accuracy.columns == ("quantity", "resnet101", "ode")
    assert accuracy.rows[0] == ("AP50 ↑", Compared(0.5), Compared(0.4, 0.8, "worse"))
    assert cost.rows == (("parameters ↓", Compared(42_000_000), Compared(21_000_000, 0.5, "better")),)
    assert speed.rows == (
        (
            "latency median [ms] ↓",
            Compared(40.0, interval=(39.0, 41.0)),
            Compared(20.0, 0.5, "better", interval=(19.0, 21.0)),
        ),
    )


def test_losses_are_stated_before_wins():
    loses, wins = compare_reports([RESNET, ODE]).sections
    assert loses.title == "Where ode loses against resnet101"
    assert loses.lines == ("AP50: 0.400 instead of 0.500, difference -0.1 (-0.1 to -0.1)",)
    assert wins.title == "Where ode wins against resnet101"
    assert wins.lines == (
        "latency median: 20.00 ms instead of 40.00 ms, 50 % lower",
        "parameters: 21,000,000 instead of 42,000,000, 50 % lower",
    )
    *nowhere, equal = compare_reports([RESNET, replace(RESNET, name="twin")]).sections
    assert [section.lines for section in nowhere] == [("Nowhere beyond noise.",)] * 2
    assert equal.title == "Where no difference of twin and resnet101 could be shown"
    assert equal.lines == ("AP50: 0.500 instead of 0.500, difference +0 (+0 to +0)",)


@pytest.mark.slow
def test_a_comparison_is_written_and_read_like_any_report(tmp_path):
    comparison = compare_reports([RESNET, ODE])
    write_report(comparison, tmp_path)
    assert read_report(tmp_path) == comparison
    html = (tmp_path / "report.html").read_text()
    assert (
        '<td class="better">20.00 [19.00, 21.00] (0.50x)</td>' in html
        and '<td class="worse">0.400 (0.80x)</td>' in html
    )
    assert html.index("loses against") < html.index("wins against")
    assert "**20.00 [19.00, 21.00] (0.50x)**" in (tmp_path / "report.md").read_text()


def test_curves_are_overlaid_and_pictures_stand_side_by_side():
    comparison = compare_reports([RESNET, ODE])
    assert {(curve.title, curve.label) for curve in comparison.curves} == {
        ("precision over recall", "resnet101"),
        ("precision over recall", "ode"),
    }
    first, second = comparison.pictures
    assert first.row == second.row == "street"
    assert (first.caption, second.caption) == ("resnet101: a street", "ode: a street")
    assert (first.png, second.png) == (b"png of resnet101", b"png of ode")


def test_runs_measured_alike_carry_no_warning_and_share_their_facts():
    comparison = compare_reports([RESNET, ODE])
    assert comparison.notes == ("latency on cpu",)
    assert comparison.facts == {key: value for key, value in FACTS.items() if key != "model"}
    assert comparison.tables[-1].rows == (("model", "resnet101", "ode"),)


@pytest.mark.parametrize(
    ("fact", "what"),
    [
        ("data set", ["Accuracy"]),
        ("image size", ["Accuracy", "Speed"]),
        ("device", ["Speed"]),
        ("threads", ["Speed"]),
        ("date", []),
    ],
)
def test_runs_measured_differently_carry_a_warning(fact, what):
    comparison = compare_reports([RESNET, replace(ODE, facts=ODE.facts | {fact: "another"})])
    warnings = [note for note in comparison.notes if "not comparable" in note]
    assert [warning.split()[0] for warning in warnings] == what
    assert all(f"{fact}: " in warning and "another (ode)" in warning for warning in warnings)


@pytest.mark.parametrize(("fact", "unscored"), [("data set", "AP50"), ("threads", "latency median"), ("date", None)])
def test_figures_that_are_not_comparable_stand_there_without_ratio_and_verdict(fact, unscored):
    comparison = compare_reports([RESNET, replace(ODE, facts=ODE.facts | {fact: "another"})])
    cells = {row[0].split()[0]: row[-1] for table in comparison.tables[:3] for row in table.rows}
    told = " ".join(line for section in comparison.sections for line in section.lines)
    for name, value in {"AP50": 0.4, "latency median": 20.0, "parameters": 21_000_000}.items():
        cell = cells[name.split()[0]]
        assert cell.value == value
        assert (cell.ratio is None, not cell.verdict, name not in told) == (name == unscored,) * 3
    loses = comparison.sections[0].lines
    if unscored == "AP50":  # the only loss
        assert loses == ("Nowhere beyond noise, of the figures that can be compared (accuracy: can't be).",)


def test_only_the_run_that_was_measured_otherwise_goes_without_ratios():
    odd = replace(ODE, name="odd", facts=ODE.facts | {"data set": "another"})
    accuracy = compare_reports([RESNET, ODE, odd]).tables[0]
    assert accuracy.rows[0] == ("AP50 ↑", Compared(0.5), Compared(0.4, 0.8, "worse"), Compared(0.4))


def test_every_group_of_figures_but_cost_and_speed_hangs_on_the_data():
    def of(group, facts):
        return replace(ODE, quantities=(Quantity("delta1", 0.5, better="higher", group=group),), facts=facts)

    for group, ratio in {"accuracy over all pixels": None, "cost": 1.0, "speed": 1.0}.items():
        table = compare_reports([of(group, FACTS), of(group, FACTS | {"data set": "another"})]).tables[0]
        assert table.rows[0][2] == Compared(0.5, ratio)


def test_times_vary_more_than_other_figures():
    def verdict(group):
        figures = (Quantity("q", each, "", "lower", group, (each - 1, each + 1)) for each in (100.0, 96.0))
        return compare_quantity(*figures).verdict

    assert [verdict(group) for group in ("speed", "cost", "accuracy")] == ["", "better", ""]


def test_a_run_that_was_not_finished_is_told():
    unfinished = replace(ODE, facts=ODE.facts | {"unfinished": "trained for 2 of 9 epochs"})
    assert "ode is not finished: trained for 2 of 9 epochs." in compare_reports([RESNET, unfinished]).notes


def test_a_fact_that_one_run_does_not_state_is_a_difference():
    facts = {key: value for key, value in ODE.facts.items() if key != "device"}
    (warning, _) = compare_reports([RESNET, replace(ODE, facts=facts)]).notes
    assert "cpu (resnet101), not stated (ode)" in warning


def test_a_figure_that_one_run_lacks_or_has_in_another_unit_is_not_set_against_another():
    other = replace(ODE, quantities=(Quantity("latency median", 0.02, "s", "lower", "speed"),))
    comparison = compare_reports([RESNET, other])
    cells = {row[0]: row[1:] for table in comparison.tables[:3] for row in table.rows}
    assert cells["latency median [ms] ↓"] == (Compared(40.0, interval=(39.0, 41.0)), Compared(None))
    assert cells["latency median [s] ↓"] == (Compared(None), Compared(0.02))
    assert all(section.lines == ("Nowhere beyond noise.",) for section in comparison.sections)


def test_equal_names_are_numbered_and_given_names_win():
    comparison = compare_reports([RESNET, RESNET, ODE])
    assert comparison.tables[0].columns == ("quantity", "resnet101", "resnet101 (2)", "ode")
    assert [picture.row for picture in comparison.pictures] == ["street"] * 3
    assert compare_reports([RESNET, ODE], names=("a", "b")).name == "a vs b"


def test_the_terminal_table_is_aligned_markdown():
    lines = comparison_table([RESNET, ODE]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert re.match(r"\| quantity +\| +resnet101 \| +ode \|", lines[0])
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "AP50 ↑",
        "threshold",
        "parameters ↓",
        "latency median [ms] ↓",
    ]
    assert "**20.00 [19.00, 21.00] (0.50x)**" in lines[-1]


def test_one_report_is_no_comparison():
    with pytest.raises(InputError, match="two reports or more, got 1"):
        compare_reports([RESNET])


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [((38.0, 42.0), (30.0, 39.0), ""), ((38.0, 42.0), (30.0, 37.0), "better"), (None, (30.0, 39.0), "")],
)
def test_figures_whose_intervals_overlap_are_neither_a_loss_nor_a_win(ours, theirs, verdict):
    reference, other = (
        Quantity("latency", value, "ms", "lower", "speed", interval)
        for value, interval in ((40.0, ours), (35.0, theirs))
    )
    assert compare_quantity(reference, other).verdict == verdict


def test_a_figure_that_has_no_better_side_in_one_of_the_runs_is_not_judged():
    assert compare_quantity(Quantity("F1", 0.5, better="higher"), Quantity("F1", 0.3)).verdict == ""


def test_accuracy_differs_only_beyond_the_interval_of_the_difference_on_the_same_images():
    reference, other = RESNET, run("other", 0.49, 40.0, 42_000_000)  # with the same deviations
    assert compare_reports([reference, other]).tables[0].rows[0][2].verdict == "worse"
    alone = np.random.default_rng(1).normal(0.49, 0.01, 1000)
    noisy = replace(other, resamples=resamples(0.49, figures={"AP50": alone}))
    comparison = compare_reports([reference, noisy])
    assert comparison.tables[0].rows[0][2].verdict == ""
    assert comparison.sections[2].lines[0].startswith("AP50: 0.490 instead of 0.500, difference -0.01 (-0.0")
    elsewhere = replace(other, resamples=resamples(0.49, digest="of other images"))
    comparison = compare_reports([reference, elsewhere])
    assert comparison.tables[0].rows[0][2] == Compared(0.49)
    assert "digest of the images: of the images (resnet101), of other images (other)" in comparison.notes[0]
    assert "accuracy: can't be" in comparison.sections[0].lines[0]
    old = replace(other, resamples=None)
    assert (
        "other has no intervals, so that no difference can be shown: evaluate it anew, and several seeds on the same "
        "images." in compare_reports([reference, old]).notes
    )


def test_a_figure_without_a_better_side_in_one_run_is_no_finding():
    neutral = replace(ODE, quantities=tuple(replace(q, better="neither") for q in ODE.quantities))
    assert [section.lines for section in compare_reports([RESNET, neutral]).sections] == [
        ("Nowhere beyond noise.",)
    ] * 2


def test_seeds_widen_the_interval_of_a_difference():
    alone = difference_interval(resamples(0.5), resamples(0.4), "AP50")
    several = resamples(0.4, seeds={"AP50": (0.39, 0.40, 0.41)})
    assert alone == pytest.approx((-0.1, -0.1))
    low, high = difference_interval(resamples(0.5, seeds={"AP50": (0.5, 0.5, 0.5)}), several, "AP50")
    half = 4.302653 * 0.01 / np.sqrt(3)  # Student's t with 2 degrees of freedom: only one of them varies
    assert (low, high) == pytest.approx((-0.1 - half, -0.1 + half), rel=1e-5)


def test_a_model_of_one_seed_is_taken_to_vary_as_the_others():
    several = resamples(0.4, seeds={"AP50": (0.39, 0.40, 0.41)})
    low, high = difference_interval(resamples(0.5), several, "AP50")
    variance = 0.01**2 * (1 + 1 / 3)
    freedom = variance**2 / ((0.01**2) ** 2 / 2 + (0.01**2 / 3) ** 2 / 2)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    assert (low, high) == pytest.approx((-0.1 - half, -0.1 + half), rel=1e-5)


def test_figures_that_were_not_tested_are_said_to_be_none_that_are_alike():
    other = replace(ODE, resamples=None, quantities=tuple(replace(q, interval=None) for q in ODE.quantities))
    *_, untested = compare_reports([RESNET, other]).sections
    assert untested.title == "Where no difference of ode and resnet101 was tested, for lack of intervals"
    assert untested.lines == (
        "latency median: 20.00 ms instead of 40.00 ms, 50 % lower",
        "AP50: 0.400 instead of 0.500, 20 % lower",
    )


def test_a_network_without_flows_does_not_win_by_evaluating_none():
    for directions, verdict in ((("lower", "neither"), ""), (("lower", "lower"), "better")):
        flows, none = (
            Quantity("NFE", value, "", better, "cost") for value, better in zip((4, 0), directions, strict=True)
        )
        assert compare_quantity(flows, none).verdict == verdict


def test_runs_that_were_evaluated_with_settings_which_no_other_fact_shows_are_not_compared():
    changed = replace(ODE, facts=ODE.facts | {UNSTATED: "data.exif=ignore"})
    comparison = compare_reports([RESNET, changed])
    assert f"{UNSTATED}: not stated (resnet101), data.exif=ignore (ode)" in comparison.notes[0]
    assert comparison.tables[0].rows[0][2] == Compared(0.4)


@pytest.mark.parametrize(
    ("ap", "says"),
    [(0.40, "Depth matters here"), (0.50, "can't tell what depth is worth"), (0.60, "Depth does harm here")],
)
def test_a_comparison_says_whether_it_can_tell_depth(ap, says):
    def discrete(report):
        return replace(report, quantities=(*report.quantities, Quantity("NFE", 0, group="cost")), front=("AP50",))

    control = run("zero", ap, 20.0, 20_000_000)
    control = discrete(replace(control, facts=control.facts | {CONTROL: "no step"}))
    notes = compare_reports([discrete(RESNET), ODE, control]).notes
    assert says in notes[0] and "resnet101" in notes[0] and "zero (AP50: difference " in notes[0]
    assert not any("ode is not beyond" in note for note in notes)
    elsewhere = replace(control, facts=control.facts | {"protocol": "another"})
    notes = compare_reports([discrete(RESNET), ODE, elsewhere]).notes
    assert not any("epth" in note for note in notes), "of figures that can't be compared, it says nothing"
