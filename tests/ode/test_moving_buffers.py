"""Buffers that move during a solve are for a recomputation as they were, and move once."""

from dataclasses import replace

import pytest
import torch
from fields_with_state import ALL, MOVING, Layers, assert_same, by_backprop, numbers, seeded, trained_once
from torch import nn
from trained_fields import assert_buffers_equal

from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, odeint


def assert_as_backprop(make, solver):
    """Gradients and buffers after a backward pass are those of backprop; returns the field."""
    found, field = trained_once(seeded(make), solver)
    expected, reference = trained_once(seeded(make), by_backprop(solver))
    assert_same(found, expected, tolerance=1e-5)
    assert_buffers_equal(field, reference)
    return field


@ALL
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated")
@pytest.mark.parametrize("name", MOVING)
def test_buffers_that_move_are_found_as_they_were_and_move_once(name, solver):
    field = assert_as_backprop(MOVING[name], solver)
    assert any(not torch.equal(a, b) for a, b in zip(field.buffers(), seeded(MOVING[name]).buffers(), strict=True))


@ALL
@pytest.mark.parametrize("name", ["spectral norm", "counters"])
def test_another_forward_pass_before_the_backward_pass_changes_nothing(name, solver):
    def another(field):
        with torch.no_grad():
            odeint(field, numbers(4, 3, seed=8), solver=solver)

    found, _ = trained_once(seeded(MOVING[name]), solver, between=another)
    expected, _ = trained_once(seeded(MOVING[name]), by_backprop(solver))
    assert_same(found, expected)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated")
@pytest.mark.parametrize("config", [SolverConfig("midpoint", 5, checkpoints=1), SolverConfig("midpoint", 1)], ids=str)
@pytest.mark.parametrize("name", MOVING)
def test_buffers_that_move_are_found_whatever_the_checkpoints(name, config):
    assert_as_backprop(MOVING[name], config)


@ALL
@pytest.mark.parametrize("name", ["counters", "statistics of one's own"])
def test_two_backward_passes_through_one_solve_give_one_gradient(name, solver):
    field, x = seeded(MOVING[name]), numbers(4, 3).requires_grad_()
    loss = odeint(field, x, solver=solver).state.square().sum()
    inputs = [x, *field.parameters()]
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    for found, expected in zip(torch.autograd.grad(loss, inputs), first, strict=True):
        torch.testing.assert_close(found, expected)


class Initialized(nn.Module):
    """A layer that sets itself up from the first batch, as an ActNorm or a LazyLinear does."""

    def __init__(self, at_time=0.0):
        super().__init__()
        self.initialized, self.at_time = False, at_time
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, t, x):
        if not self.initialized and t >= self.at_time:
            self.mean.data = x.detach().mean(0)  # which counts no version up
            self.initialized = True
        return x - self.mean


class InitializedField(Layers):
    def __init__(self, at_time=0.0):
        super().__init__(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))
        self.start = Initialized(at_time)

    def forward(self, t, x):
        return self.layers(self.start(t, x))


@pytest.mark.parametrize("checkpoints", ["every", "sqrt", 1])
def test_a_layer_that_sets_itself_up_in_the_first_pass_stays_set_up(checkpoints):
    assert assert_as_backprop(InitializedField, SolverConfig("euler", 5, checkpoints=checkpoints)).start.initialized


def test_a_buffer_that_begins_to_move_late_and_untold_is_refused():
    solver = SolverConfig("euler", 5)
    with pytest.raises(InputError, match="begins to move after the first step: take gradient='backprop'"):
        trained_once(InitializedField(at_time=0.5), solver)
    trained_once(InitializedField(at_time=0.5), replace(solver, gradient="backprop"))
