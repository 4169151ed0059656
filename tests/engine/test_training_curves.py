"""A run's log in its report: read back as it was written, and summed by what belongs together."""

from odebackbones.engine.log import write_csv
from odebackbones.engine.training_curves import read_history, training_curves, training_quantities

HISTORY = [
    {"epoch": 1.0, "loss_a": 1.0, "loss_b": 0.5, "seconds": 60.0, "nfe/layer1": 14.0, "nfe/layer2": 20.0},
    {"epoch": 2.0, "loss_a": 0.5, "loss_b": 0.25, "seconds": 90.0, "nfe/layer1": 20.0, "nfe/layer2": 26.0, "AP": 0.5},
    {"epoch": 3.0, "loss_a": 0.25, "loss_b": 0.25, "seconds": 30.0, "nfe/layer1": 26.0, "nfe/layer2": 26.0, "AP": 0.0},
]


def test_a_log_is_read_back_as_it_was_written(tmp_path):
    write_csv(HISTORY, tmp_path / "log.csv")
    assert read_history(tmp_path / "log.csv") == HISTORY


def test_without_a_log_there_is_nothing_to_tell(tmp_path):
    history = read_history(tmp_path / "log.csv")
    assert (history, training_curves(history, monitor="AP"), training_quantities(history)) == ([], (), ())


def test_losses_and_evaluations_are_summed_and_the_metric_stands_where_it_was_measured():
    curves = {curve.y_label: (curve.x, curve.y) for curve in training_curves(HISTORY, monitor="AP")}
    assert curves == {
        "loss": ((1.0, 2.0, 3.0), (1.5, 0.75, 0.5)),
        "AP": ((2.0, 3.0), (0.5, 0.0)),
        "NFE": ((1.0, 2.0, 3.0), (34.0, 46.0, 52.0)),
    }


def test_one_epoch_is_no_curve():
    assert training_curves(HISTORY[:1], monitor="AP") == ()


def test_the_time_of_all_epochs_is_told_in_minutes():
    (quantity,) = training_quantities(HISTORY)
    assert (quantity.value, quantity.unit) == (3.0, "min")
