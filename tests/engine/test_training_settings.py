"""Settings of two trainings: which differ, and which matter."""

import pytest

from engine.config import OptimConfig
from engine.training.settings import differences, with_defaults
from odebackbones.errors import InputError


def test_settings_that_differ_are_named_but_those_of_the_place_of_a_run_may():
    old = {"run": {"name": "a", "seed": 0}, "optim": {"lr": 0.1, "epochs": 3}}
    new = {"run": {"name": "b", "seed": 1}, "optim": {"lr": 0.2, "epochs": 3}}
    assert differences(old, new, free=()) == ["optim.lr was 0.1, is 0.2", "run.seed was 0, is 1"]


def test_a_run_of_an_older_version_had_the_defaults_of_what_it_did_not_know():
    old = {"optim": {"lr": 0.1, "gone": 1}, "run": {"seed": 3}}
    defaults = {"optim": {"lr": 0.001, "ema": 0.0}, "run": {"seed": 0}, "loss": {"mixup": 0.0}}
    expected = {"optim": {"lr": 0.1, "gone": 1, "ema": 0.0}, "run": {"seed": 3}, "loss": {"mixup": 0.0}}
    assert with_defaults(old, defaults) == expected


def test_other_solvers_of_an_evaluation_are_no_other_training():
    old, new = ({"eval": {"solvers": solvers, "protocol": "nyu"}} for solvers in ([], ["euler"]))
    assert differences(old, new, free=["eval.solvers"]) == differences(old, new, free=["eval"]) == []
    other = {"eval": {"solvers": [], "protocol": "raw"}}
    assert differences(old, other, free=["eval.solvers"]) == ["eval.protocol was 'nyu', is 'raw'"]


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"amp": "bf16"}, "bfloat16"),
        ({"schedule": "cosin"}, "cosine"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ],
)
def test_impossible_settings_are_refused(setting, word):
    with pytest.raises(InputError, match=word):
        OptimConfig(**setting)
