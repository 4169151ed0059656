"""Is it an ODE? A flow passes the test, and a network that hangs on its solver does not."""

import math

import pytest
import torch
from torch import nn

from engine.report.transfer import transfer_curves, transfer_table
from odebackbones import InputError, ODEBlock
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times
from odebackbones.transfer import (
    Transfer,
    accuracy,
    convergence_order,
    solver_transfer,
)


class GrowthField(nn.Module):
    """x' = r x."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, t, x):
        return self.rate * x


class Threshold(nn.Module):
    """Says class 1 where the first number is above a threshold."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        return torch.stack([torch.full_like(x[:, 0], self.threshold), x[:, 0]], dim=1)


X = torch.linspace(0.0, 2.0, 41)[:, None]


def classifier(solver, *, factor):
    """Multiplies by e as the solver has it, and is right if that is ``factor``: the labels say ``factor * x > 1``."""
    model = nn.Sequential(ODEBlock(GrowthField(1.0), solver), Threshold(1.0))
    return model, [(X, (factor * X[:, 0] > 1.0).long())]


def by_solver(rows):
    return {(row.method, row.steps): row.metric for row in rows}


def test_a_flow_keeps_its_accuracy_under_every_fine_solver():
    model, data = classifier(SolverConfig("rk4", 4), factor=math.e)
    found = by_solver(solver_transfer(model, data, methods=("midpoint", "rk4"), steps=(4, 8, 64)))
    assert set(found.values()) == {1.0}


def test_weights_that_hang_on_their_solver_are_found_out():
    model, data = classifier(SolverConfig("euler", 1), factor=2.0)  # one Euler step multiplies by 2, not by e
    found = by_solver(solver_transfer(model, data, methods=("euler",), steps=(1, 2, 64)))
    assert found["trained", None] == found["euler", 1] == 1.0
    wrong = ((math.e * X > 1.0) != (2.0 * X > 1.0)).float().mean()
    assert found["euler", 64] == pytest.approx(1.0 - wrong)
    assert found["euler", 64] < found["euler", 2] < 1.0


def test_evaluations_are_those_of_all_blocks():
    model, data = classifier(SolverConfig("heun", 3), factor=2.0)
    model = nn.Sequential(ODEBlock(GrowthField(0.1), SolverConfig("euler", 5)), model)
    rows = solver_transfer(model, data, methods=("euler", "rk4"), steps=(1, 2))
    assert [(row.method, row.steps, row.nfe) for row in rows] == [
        *[("trained", None, 5 + 6), ("euler", 1, 2), ("euler", 2, 4), ("rk4", 1, 8), ("rk4", 2, 16)],
    ]


@pytest.mark.parametrize(
    "solver",
    [
        SolverConfig("dopri5", rtol=1e-6, atol=1e-6, max_nfe=200),
        SolverConfig("leapfrog", 2, "reversible", state_dtype="float64"),
        SolverConfig("euler", grid=(0.1, 1.0)),
    ],
    ids=["adaptive", "reversible", "uneven"],
)
def test_any_solver_is_compared_with_even_steps_of_others(solver):
    model, data = classifier(solver, factor=math.e)
    rows = solver_transfer(model, data, methods=("rk4",), steps=(4, 60))
    assert rows[0].nfe >= 2  # an adaptive solve's are known when it is over
    assert [(row.steps, row.nfe) for row in rows[1:]] == [(4, 16), (60, 240)]
    assert rows[2].metric == 1.0


def test_a_solver_that_finds_its_steps_is_tried_at_tolerances():
    model, data = classifier(SolverConfig("rk4", 4), factor=math.e)
    rows = solver_transfer(model, data, methods=("euler", "dopri5"), steps=(2,), tolerances=(1e-1, 1e-9))
    assert [(row.method, row.steps, row.tolerance) for row in rows[1:]] == [
        *[("euler", 2, None), ("dopri5", None, 1e-1), ("dopri5", None, 1e-9)],
    ]
    assert rows[2].nfe < rows[3].nfe
    assert rows[3].metric == 1.0


def test_further_figures_are_measured_and_the_model_stays():
    model, data = classifier(SolverConfig("euler", 1), factor=2.0)
    seen = []

    def memory(changed):
        seen.append(changed)
        changed[0].field.rate = 0.0
        return 2.0 * changed[0].stats().nfe

    rows = solver_transfer(model, data, methods=("euler",), steps=(3, 2), further={"memory [MiB]": memory})
    assert [row.further for row in rows] == [{"memory [MiB]": value} for value in (2.0, 6.0, 4.0)]
    assert model[0].field.rate == 1.0 and model not in seen
    table = transfer_table(rows)
    assert table.columns[-1] == "memory [MiB]" and "tolerance" not in table.columns
    *_, trained, curve = transfer_curves(rows)
    assert (trained.label, trained.x, trained.y) == ("trained", (1.0,), (2.0,))
    assert (curve.title, curve.x, curve.y) == ("Solver transfer: memory [MiB] over NFE", (2.0, 3.0), (4.0, 6.0))


@pytest.mark.parametrize("solver", [{"projected": True}, {"grid": (0.1, 1.0)}], ids=["projected", "uneven"])
def test_adaptive_solvers_are_tried_whatever_the_solver_was(solver):
    model, data = classifier(SolverConfig("euler", 2, **solver), factor=math.e)
    (_, row) = solver_transfer(model, data, methods=("dopri5",), tolerances=(1e-6,))
    assert row.metric == 1.0


def test_a_solve_that_cannot_be_finished_leaves_a_gap():
    model, data = classifier(SolverConfig("euler", 1), factor=1e13)
    model[0].field.rate = 1e13  # its fourth power is too much for float32
    trained, row = solver_transfer(model, data, methods=("rk4",), steps=(1,), further={"one": lambda _: 1.0})
    assert trained.metric == 1.0 and trained.further == {"one": 1.0}
    assert math.isnan(row.metric) and row.further == {}
    curves = {(curve.y_label, curve.label): curve.y for curve in transfer_curves([trained, row])}
    assert curves["one", "trained"] == (1.0,) and curves["one", "rk4"] == ()


def test_what_cannot_be_had_is_an_error_before_the_work():
    with pytest.raises(InputError, match="no ODE block"):
        solver_transfer(nn.ReLU(), [], metric=lambda *_: pytest.fail("work was begun"))


def batch_norm_block(method="midpoint", steps=2):
    torch.manual_seed(0)
    solver = SolverConfig(method, steps)
    norm = norm_layer("batch", nodes=evaluation_times(solver), bases=1)
    return ODEBlock(BasicField(4, width=6, norm=norm), solver)


def test_statistics_are_calibrated_under_every_solver_and_the_model_stays():
    block = batch_norm_block().eval()
    batches = [torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]

    def node_means(model, data):
        return float(sum(m.running_mean.abs().sum() for m in model.modules() if isinstance(m, TimeBatchNorm2d)))

    arguments = {"metric": node_means, "methods": ("euler",), "steps": (3,)}
    plain = solver_transfer(block, batches, **arguments)
    found = solver_transfer(block, batches, calibrate_on=batches, **arguments)
    assert [row.metric for row in plain] == [0.0, 0.0]  # never trained: all means are zero
    assert [row.method for row in found] == ["trained", "calibrated", "euler"]
    trained, calibrated, euler = found
    assert trained.metric == 0.0 and calibrated.metric > 0.1 and euler.metric > 0.1
    assert (calibrated.nfe, calibrated.steps) == (trained.nfe, None)


def test_accuracy_counts_over_batches_of_unequal_size_and_leaves_the_mode():
    model, _ = classifier(SolverConfig("euler", 1), factor=2.0)
    model.train()
    model[1].eval()
    right, wrong = (X[:30], (2.0 * X[:30, 0] > 1.0).long()), (X[30:], torch.zeros(11, dtype=torch.long))
    assert accuracy(model, [right, wrong]) == pytest.approx(30 / 41)
    assert model.training and not model[1].training
    with pytest.raises(InputError, match="there are no batches"):
        accuracy(model, [])


ROWS = [
    Transfer("trained", None, 8, 0.9),
    *(Transfer("euler", n, n, metric) for n, metric in ((1, 0.5), (2, 0.8))),
    *(Transfer("rk4", n, 4 * n, metric) for n, metric in ((1, 0.85), (2, 0.95))),
]


def test_the_table_has_the_change_against_the_model_as_it_came():
    table = transfer_table(ROWS, name="mAP")
    assert table.columns == ("solver", "steps", "NFE", "mAP", "against trained")
    assert table.rows[0] == ("trained", None, 8, 0.9, 0.0)
    assert table.rows[-1][:4] == ("rk4", 2, 8, 0.95) and table.rows[-1][4] == pytest.approx(0.05)


def test_there_is_a_curve_over_the_evaluations_for_every_method():
    trained, euler, rk4 = transfer_curves(ROWS, name="mAP")
    assert (trained.label, trained.x, trained.y) == ("trained", (8.0,), (0.9,))
    assert (euler.label, euler.x, euler.y) == ("euler", (1.0, 2.0), (0.5, 0.8))
    assert (rk4.label, rk4.x, rk4.y) == ("rk4", (4.0, 8.0), (0.85, 0.95))
    assert euler.title == rk4.title and "mAP" in euler.title


class SmoothField(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, t, x):
        return torch.tanh(math.cos(t) * self.conv(x))


class KinkedField(nn.Module):
    """Its slope jumps at t = 1/3, a third or two into a step of 2^-n."""

    def forward(self, t, x):
        return abs(t - 1 / 3) * torch.ones_like(x)


STATE = torch.randn(2, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk3", 3), ("rk4", 4), ("leapfrog", 2)])
def test_a_smooth_field_converges_at_the_methods_order(method, order):
    torch.manual_seed(0)
    block = ODEBlock(SmoothField().double(), SolverConfig("euler", 4))
    found = convergence_order(block, STATE, method=method)
    assert found.order == pytest.approx(order, abs=0.1)
    assert found.steps == (8, 16, 32, 64) and sorted(found.errors, reverse=True) == list(found.errors)


def test_a_field_with_a_kink_converges_more_slowly():
    block = ODEBlock(KinkedField(), SolverConfig("rk4", 4))
    assert convergence_order(block, STATE).order == pytest.approx(2, abs=0.1)  # h^2 in the kink's step, and not h^4
