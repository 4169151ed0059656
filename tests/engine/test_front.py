"""The picture of accuracy over cost: which points it has, and when there is none."""

from engine.report.comparison import compare_reports
from engine.report.files import read_report, write_report
from engine.report.front import cost_labels, front_pictures, point_labels, run_series
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
    assert own.is_own and own.points[0].figures == {"AP": 0.4, "parameters": 10.0, LATENCY: 50.0}
    assert euler.label == "ode: euler" and [p.setting for p in euler.points] == ["1", "1-2"]
    assert all(p.figures["parameters"] == 10.0 for p in euler.points)
    assert cost_labels([*own.points, *euler.points]) == [LATENCY, "parameters"]


def test_a_comparison_shows_the_picture_first_and_a_single_point_shows_none(tmp_path):
    comparison = compare_reports([ODE, PLAIN])
    [picture] = comparison.headline
    assert picture.png.startswith(b"\x89PNG")
    write_report(comparison, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.index("accuracy-over-cost.png") < text.index("## Where plain loses against ode")
    assert front_pictures([PLAIN], ["plain"]) == ()


def test_points_are_read_back_equal(tmp_path):
    write_report(ODE, tmp_path)
    assert read_report(tmp_path).points == ODE.points and read_report(tmp_path).front == ("AP",)


def test_points_that_lie_close_together_share_a_label():
    x, y, texts = (0.0, 1.0, 50.0, 100.0), (0.5, 0.5, 0.5, 0.9), ("0.1", "0.01", "0.001", "0.0001")
    found = point_labels(x, y, texts, span=(100.0, 0.4))
    assert found == [((0.0, 0.5), "0.1, 0.01"), ((50.0, 0.5), "0.001"), ((100.0, 0.9), "0.0001")]
