"""A run's log in its report: read back as it was written, and summed by what belongs together."""

import pytest

from engine.log import write_csv
from engine.training.record import read_history, training_curves, training_facts, training_quantities

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


def test_evaluations_that_stay_the_same_are_no_curve():
    steady = [{"epoch": float(i), "loss": 1.0, "nfe/flow": 8.0} for i in range(3)]
    assert [curve.y_label for curve in training_curves(steady, monitor="AP")] == ["loss"]


DEFAULTS = {
    "optim": {"epochs": 12, "ema_decay": 0.0, "lr": 1e-3},
    "loss": {"mixup": 0.0},
    "data": {"augment": "none", "workers": 2},
    "distillation": {"teacher": None},
}


def checkpoint(*, loss, model=None, **content):
    optim = {"epochs": 10, "ema_decay": 0.9, "lr": 1e-3}
    data, teacher = {"augment": "crop", "workers": 0}, {"backbone": "resnet20", "backbone_args": {"steps": 2}}
    config = {"run": {"seed": 3}, "optim": optim, "loss": loss, "data": data, "distillation": {"teacher": teacher}}
    return {"config": {**config, "model": model or {}}, **content}


def test_a_checkpoint_tells_its_epoch_and_the_settings_it_hangs_on():
    facts = training_facts(checkpoint(loss={"mixup": 0.2}, epoch=7), DEFAULTS, free=["data.workers"], epochs=10)
    assert facts == {
        "weights": "moving average after epoch 7 of 10",
        "seed": "3",
        "optim": "epochs=10, ema_decay=0.9",
        "loss": "mixup=0.2",
        "data": "augment=crop",
        "distillation": "teacher.backbone=resnet20, teacher.backbone_args.steps=2",
    }


@pytest.mark.parametrize(
    ("model", "fact"),
    [
        ({"pretrained": True}, {"pretrained": "timm's weights"}),
        ({"pretrained": False, "checkpoint": "a.pth"}, {"checkpoint": "a.pth"}),
        ({"pretrained": "runs/a/best.pt", "checkpoint": ""}, {}),  # leaves a record of its own
    ],
)
def test_a_checkpoint_tells_what_the_training_started_from(model, fact):
    content = checkpoint(loss={}, model=model, epoch=7)
    facts = training_facts(content, DEFAULTS, free=["data.workers"], epochs=10)
    assert {name: facts[name] for name in ("pretrained", "checkpoint") if name in facts} == fact


@pytest.mark.parametrize(("epochs", "told"), [(4, True), (10, False), (0, False)])
def test_a_training_that_was_not_finished_is_told(epochs, told):
    facts = training_facts(
        checkpoint(loss={"mixup": 0.0}, history=HISTORY), DEFAULTS, free=["data.workers"], epochs=epochs
    )
    assert facts["weights"] == "moving average after epoch 3 of 10" and "loss" not in facts
    assert facts.get("unfinished") == ("trained for 4 of 10 epochs" if told else None)


def test_the_time_of_all_epochs_is_told_in_minutes():
    (quantity,) = training_quantities(HISTORY)
    assert (quantity.value, quantity.unit) == (3.0, "min")
