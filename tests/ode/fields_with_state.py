"""Fields with every kind of state, and how their gradients are compared with plain backpropagation's."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm
from trained_fields import relative_error

from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig, odeint
from odebackbones.ode.solvers import evaluation_times

SOLVERS = {
    "checkpoint, Euler": SolverConfig("euler", 5),
    "checkpoint, midpoint": SolverConfig("midpoint", 5),
    "2 checkpoints, midpoint": SolverConfig("midpoint", 5, checkpoints=2),
    "sqrt of checkpoints, ab2": SolverConfig("ab2", 5, checkpoints="sqrt"),
    "checkpoint, implicit Euler": SolverConfig("implicit_euler", 5, degree=2),
    "checkpoint, dopri5": SolverConfig("dopri5"),
    "reversible, leapfrog": SolverConfig("leapfrog", 5, "reversible"),
    "reversible, alf": SolverConfig("alf", 5, "reversible"),
    "reversible, reversible Heun": SolverConfig("reversible_heun", 5, "reversible"),
}
ALL = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def by_backprop(solver):
    """The same solve with plain backpropagation, in the same arithmetic."""
    state_dtype = "int32" if solver.gradient == "reversible" else "auto"
    return replace(solver, gradient="backprop", checkpoints="every", state_dtype=state_dtype)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(make):
    torch.manual_seed(0)
    return make()


class Layers(nn.Module):
    """Layers as a vector field."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, t, x):
        return (1.0 + t) * self.layers(x)


def tanh_field():
    return seeded(lambda: Layers(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)))


def assert_same(found, expected, tolerance=2e-6):
    """All gradients, relative to each one's norm, but for those that are zero up to rounding (biases before norms)."""
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] is None] == [name for name in found if expected[name] is None]
    pairs = {name: (found[name], value) for name, value in expected.items() if value is not None}
    largest = max(float(value.abs().max()) for _, value in pairs.values())
    compared = {name: pair for name, pair in pairs.items() if pair[1].abs().max() > 1e-4 * largest}
    assert len(compared) >= max(2, 0.6 * len(pairs))
    for name, (gradient, value) in compared.items():
        assert relative_error([gradient], [value]) <= tolerance, name


def gradients_of(module, x):
    return {"input": x.grad, **{name: p.grad for name, p in module.named_parameters()}}


def time_field(solver):
    """A field with statistics per time."""
    norms = norm_layer("batch", nodes=evaluation_times(solver), bases=1)
    field = BasicField(3, width=4, norm=norms)
    nn.init.normal_(field.norm2.weight[0])
    return field


class BatchStatistics(nn.Module):
    """A norm of one's own: torch counts no version of these buffers up."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, training=self.training)


class Counters(nn.Module):
    """Buffers that move with every evaluation, in place and not, and that the output depends on."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long), persistent=False)

    def forward(self, x):
        if self.training:
            self.scale = self.scale * 0.9
            self.seen += 1
        return x * self.scale / (1.0 + 0.1 * self.seen)


MOVING = {
    "spectral norm": lambda: Layers(parametrizations.spectral_norm(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 3)),
    "old spectral norm": lambda: Layers(spectral_norm(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 3)),
    "counters": lambda: Layers(nn.Linear(3, 5), Counters(), nn.Tanh(), nn.Linear(5, 3)),
    "statistics of one's own": lambda: Layers(nn.Linear(3, 3), BatchStatistics(), nn.Tanh(), Counters()),
}


def trained_once(field, solver, *, between=lambda field: None):
    """Gradients after a backward pass, and the field with the buffers that it leaves."""
    x = numbers(4, 3).requires_grad_()
    torch.manual_seed(1)
    end = odeint(field, x, solver=solver).state
    between(field)
    end.square().sum().backward()
    return gradients_of(field, x), field
