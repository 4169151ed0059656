"""A recomputation runs in the modes of the forward pass, and finds every kind of state."""

import copy

import pytest
import torch
from fields_with_state import (
    ALL,
    Counters,
    Layers,
    assert_same,
    by_backprop,
    gradients_of,
    numbers,
    seeded,
    time_field,
)
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from trained_fields import assert_buffers_equal

from odebackbones.ode import odeint


def freeze(field):
    for module in field.modules():
        if hasattr(module, "freeze"):
            module.freeze()
    field.requires_grad_(True)


SWITCHES = {
    "eval": lambda field: field.eval(),
    "one module": lambda field: next(m for m in field.modules() if "Norm" in type(m).__name__).eval(),
    "frozen": freeze,
}
NORMED = {
    "statistics per time": lambda solver: time_field(solver),
    "batch norm and dropout": lambda solver: Layers(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)
    ),
}


@ALL
@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("make", NORMED.values(), ids=NORMED)
def test_the_recomputation_runs_in_the_mode_of_the_forward_pass(make, switch, solver):
    if "Layers" in type(make(solver)).__name__ and solver.method == "dopri5":
        pytest.skip("an adaptive solver finds no steps for a random field")
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = seeded(lambda: make(solver)), numbers(4, 3, 5, 5).requires_grad_()
        torch.manual_seed(1)
        end = odeint(field, x, solver=config).state
        SWITCHES[switch](field)
        modes = [m.training for m in field.modules()]
        end.square().sum().backward()
        assert [m.training for m in field.modules()] == modes
        found.append((gradients_of(field, x), field))
    (gradients, field), (expected, reference) = found
    assert_same(gradients, expected, tolerance=2e-5)
    assert_buffers_equal(field, reference)


@ALL
def test_a_solve_in_evaluation_mode_is_recomputed_so_after_more_training(solver):
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = seeded(lambda: time_field(solver)).eval(), numbers(4, 3, 5, 5).requires_grad_()
        end = odeint(field, x, solver=config).state
        if config is solver:
            field.train()
            odeint(field, numbers(4, 3, 5, 5, seed=5), solver=config)  # moves the statistics
        end.square().sum().backward()
        found.append(gradients_of(field, x))
    assert_same(*found)


# All kinds of state at once


class EveryState(nn.Module):
    """A field with every kind of state that PyTorch's modules have."""

    def __init__(self):
        super().__init__()
        self.first = parametrizations.spectral_norm(nn.Conv2d(3, 4, 3, padding=1))
        self.second = spectral_norm(nn.Conv2d(4, 4, 1))
        self.third = parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
        self.fourth = weight_norm(nn.Conv2d(4, 4, 1))
        self.tied = nn.Conv2d(4, 4, 1, bias=False)
        self.tied.weight = self.fourth.weight_v
        self.last = nn.Conv2d(4, 3, 3, padding=1)
        self.norms = nn.Sequential(
            nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True), nn.GroupNorm(2, 4)
        )
        self.counters, self.dropout = Counters(), nn.Dropout(0.2)
        self.gains = nn.ParameterList([torch.ones(4, 1, 1), torch.zeros(4, 1, 1)])
        self.offsets = nn.ParameterDict({"a": torch.zeros(4, 1, 1)})
        self.frozen = nn.Parameter(torch.full((4, 1, 1), 0.5), requires_grad=False)
        self.register_parameter("none", None)
        self.register_buffer("constant", torch.linspace(0, 1, 4).reshape(4, 1, 1))
        self.register_buffer("empty", None)
        self.tensor = torch.full((4, 1, 1), 0.3)
        self.last.register_forward_pre_hook(lambda module, inputs: (2.0 * inputs[0],))
        self.last.register_forward_hook(lambda module, inputs, output: 0.5 * output)

    def forward(self, t, x):
        x = self.third(torch.tanh(self.second(torch.tanh(self.first(x)))))
        x = self.norms(self.fourth(x) + self.tied(x)) * (self.gains[0] + t * self.gains[1]) + self.offsets["a"]
        return self.last(self.dropout(self.counters(x * self.frozen + self.constant + self.tensor)))


@ALL
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.(spectral|weight)_norm.* is deprecated")
def test_a_field_with_every_kind_of_state_has_the_gradients_and_buffers_of_backprop(solver):
    if solver.method == "dopri5":
        pytest.skip("an adaptive solver finds no steps for a random field")
    found = []
    for config in (solver, by_backprop(solver)):
        field, x = seeded(EveryState), numbers(4, 3, 5, 5).requires_grad_()
        torch.manual_seed(1)
        end = odeint(field, x, solver=config).state
        drawn = torch.get_rng_state()
        before = copy.deepcopy(dict(field.named_buffers()))
        end.square().sum().backward()
        assert torch.equal(torch.get_rng_state(), drawn)
        assert all(torch.equal(buffer, before[name]) for name, buffer in field.named_buffers())
        found.append((gradients_of(field, x), field))
    (gradients, field), (expected, reference) = found
    assert_same(gradients, expected, tolerance=2e-5)
    assert_buffers_equal(field, reference)
