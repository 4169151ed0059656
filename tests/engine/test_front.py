"""The picture of accuracy over cost: which points it has, and when there is none."""

from dataclasses import replace
from itertools import combinations

from matplotlib.figure import Figure

from engine.report.comparison import compare_reports
from engine.report.files import read_report, write_report
from engine.report.front import cost_labels, front_pictures, run_series
from engine.report.labels import Label, place_labels
from engine.report.records import Point, Quantity, Report

LATENCY = "latency median [ms]"


def report(name, ap, latency, *points, parameters=10.0):
    quantities = (
        Quantity("AP", ap, better="higher"),
        Quantity("parameters", parameters, "", "lower", "cost"),
        Quantity("latency median", latency, "ms", "lower", "speed"),
    )
    return Report(name, name, {}, quantities, front=("AP",), points=points)


def point(steps, ap, latency):
    return Point("euler", steps, None, {"AP": ap, LATENCY: latency})


ODE = report("ode", 0.4, 50.0, point(1, 0.3, 20.0), point((1, 2), 0.35, 30.0))
PLAIN = report("plain", 0.45, 40.0, parameters=30.0)


def test_every_run_is_a_point_and_every_solver_a_line():
    own, euler = run_series(0, ODE, "ode")
    assert not own.solver and own.points[0].figures == {"AP": 0.4, "parameters": 10.0, LATENCY: 50.0}
    assert euler.label == "ode: euler" and [p.setting for p in euler.points] == ["1", "1-2"]
    assert all(p.figures["parameters"] == 10.0 for p in euler.points)
    assert cost_labels([*own.points, *euler.points]) == {LATENCY: "latency", "parameters": "parameters"}


def test_a_comparison_shows_the_picture_first_and_a_single_point_shows_none(tmp_path):
    comparison = compare_reports([ODE, PLAIN])
    assert [picture.name for picture in comparison.headline] == ["accuracy-over-latency", "accuracy-over-parameters"]
    assert all(picture.png.startswith(b"\x89PNG") for picture in comparison.headline)
    write_report(comparison, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.index("accuracy-over-latency.png") < text.index("## Where plain loses against ode")
    assert front_pictures([PLAIN], ["plain"]) == ()


def test_what_was_not_measured_like_the_first_run_is_left_out_and_named():
    elsewhere = replace(PLAIN, facts={"data set": "another"})
    assert {picture.caption.partition("; ")[2] for picture in front_pictures([ODE, elsewhere], ["ode", "plain"])} == {
        "without plain, not measured alike"
    }
    threads = replace(PLAIN, facts={"threads": "2"})
    captions = [picture.caption for picture in front_pictures([ODE, threads], ["ode", "plain"])]
    assert captions == [
        "Accuracy over latency median [ms]; without plain, not measured alike",
        "Accuracy over parameters",
    ]


def test_points_are_read_back_equal(tmp_path):
    write_report(ODE, tmp_path)
    assert read_report(tmp_path).points == ODE.points and read_report(tmp_path).front == ("AP",)


def test_labels_never_overlap_and_stay_within_the_panel():
    figure = Figure(figsize=(4, 3))
    panel = figure.add_subplot()
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    points = [(0.5, 0.5), (0.5, 0.5), (0.5, 0.501), (0.99, 0.5), *((0.2, 0.2) for _ in range(20))]
    place_labels(panel, [Label(at, f"label {i}", "black") for i, at in enumerate(points)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in panel.texts]
    assert {f"label {i}" for i in range(4)} <= {text.get_text() for text in panel.texts} and 6 < len(boxes) < 20
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(box.x1 <= panel.get_window_extent().x1 for box in boxes)
