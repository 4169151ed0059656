"""Fields as people write them: conditions, hooks, counters and features of their own, in every gradient mode."""

import random

import numpy as np
import pytest
import torch
from fields_with_state import ALL, assert_same, numbers, seeded
from plain_fields import Plain, both
from torch import nn
from torch.nn.utils import prune, weight_norm
from trained_fields import relative_error

from odebackbones.block import ODEBlock
from odebackbones.ode import SolverConfig, odeint

FIXED = pytest.mark.parametrize("gradient", ["checkpoint", "reversible"])


class Controlled(Plain):
    """Multiplied by an attribute."""

    control = 1.0

    def forward(self, t, x):
        return super().forward(t, x) * self.control


CONTROLS = {
    "tensors": torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.4, 3.0], [0.3, 0.2, 0.1]]).unbind(),
    "numbers": (0.5, 2.0, -1.0),
}


@ALL
@pytest.mark.parametrize("controls", CONTROLS.values(), ids=CONTROLS)
def test_a_condition_may_change_from_solve_to_solve(controls, solver):
    def train(field, x, config):
        state = x
        for control in controls:
            field.control = control
            state = odeint(field, state, solver=config).state
        state.square().sum().backward()
        assert field.control is controls[-1]

    assert_same(*both(Controlled, solver, train))


class Running(Plain):
    """Subtracts a mean that moves on from step to step: a plain tensor."""

    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(3)

    def forward(self, t, x):
        self.mean = 0.5 * self.mean + 0.5 * x.detach().mean(0)
        return super().forward(t, x - self.mean)


class Counting(Plain):
    """Takes another weight at every evaluation."""

    def __init__(self):
        super().__init__()
        self.i, self.weights = 0, nn.Parameter(torch.linspace(0.5, 1.5, 100))

    def forward(self, t, x):
        self.i += 1
        return super().forward(t, x) * self.weights[self.i]


@ALL
@pytest.mark.parametrize("make", [Running, Counting])
def test_what_a_field_carries_from_step_to_step_is_found_again(make, solver):
    if solver.method in ("dopri5", "implicit_euler") and solver.degree is None:
        pytest.skip("an adaptive solver finds no steps for a field that moves")
    ends = []

    def train(field, x, config):
        odeint(field, x, solver=config).state.square().sum().backward()
        ends.append((getattr(field, "i", None), getattr(field, "mean", torch.zeros(())).clone()))

    assert_same(*both(make, solver, train))
    assert ends[0][0] == ends[1][0]  # evaluations are counted once
    torch.testing.assert_close(ends[0][1], ends[1][1])


@FIXED
def test_a_graph_that_would_go_through_a_buffer_is_told(gradient):
    class Recurrent(Plain):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(3, 3)
            self.register_buffer("memory", torch.zeros(4, 3))

        def forward(self, t, x):
            self.memory = self.cell(x, self.memory)
            return super().forward(t, x) + self.memory

    with pytest.warns(UserWarning, match=r"Recurrent.memory, a buffer, was given a graph .* torch.no_grad"):
        odeint(Recurrent(), numbers(4, 3).requires_grad_(), solver=SolverConfig("alf", 3, gradient))


@ALL
@pytest.mark.parametrize("named", [False, True], ids=["found", "given"])
def test_a_context_that_depends_on_another_is_not_counted_twice(named, solver):
    def train(field, x, config):
        encoder = seeded(lambda: nn.Linear(2, 3))
        first = encoder(torch.ones(2))
        second = first.exp()
        field.forward = lambda t, x: torch.tanh(field.linear(x)) * first + second
        parameters = [first, second] if named else None
        odeint(field, x, solver=config, parameters=parameters).state.square().sum().backward()
        return {"encoder": encoder.weight.grad}

    assert_same(*both(Plain, solver, train), tolerance=5e-6)


@pytest.mark.filterwarnings("ignore:gradient='adjoint'")
def test_the_adjoint_counts_such_contexts_once_too():
    def train(field, x, config):
        first = seeded(lambda: nn.Linear(2, 3))(torch.ones(2))
        second = first.exp()
        field.forward = lambda t, x: torch.tanh(field.linear(x)) * first + second
        first.retain_grad()
        odeint(field, x, solver=config).state.square().sum().backward()
        return {"first": first.grad}

    adjoint = SolverConfig("dopri5", gradient="adjoint", rtol=1e-7, atol=1e-9)
    found = both(Plain, adjoint, train)
    for name, value in found[1].items():
        assert relative_error([found[0][name]], [value]) < 1e-4, name


class Drawing(Plain):
    """Draws from a generator in a container, late."""

    def __init__(self, generator):
        super().__init__()
        self.generators = {"all": [generator]}

    def forward(self, t, x):
        slope = super().forward(t, x)
        [generator] = self.generators["all"]
        return slope * (float(generator.random()) + random.random()) if t > 0.4 else slope


@FIXED
@pytest.mark.parametrize("generator", [np.random.default_rng, random.Random], ids=["NumPy", "Python"])
def test_generators_anywhere_draw_again_as_they_did_also_late(generator, gradient):
    solver = SolverConfig("alf", 5, gradient)

    def train(field, x, config):
        odeint(field, x, solver=config).state.square().sum().backward()

    assert_same(*both(lambda: Drawing(generator(0)), solver, train))


@ALL
def test_hooks_on_parameters_fire_once(solver):
    calls = []

    def train(field, x, config):
        calls.append(0)

        def halve(gradient):
            calls[-1] += 1
            return 0.5 * gradient

        field.linear.weight.register_hook(halve)
        odeint(field, x, solver=config).state.square().sum().backward()

    assert_same(*both(Plain, solver, train))
    assert calls == [1, 1]


@ALL
def test_hooks_within_a_field_see_the_gradients_of_the_loss(solver):
    class Clamped(Plain):
        def forward(self, t, x):
            slope = super().forward(t, x)
            if slope.requires_grad:
                slope.register_hook(lambda gradient: gradient.clamp(-0.05, 0.05))
            return slope

    def train(field, x, config):
        odeint(field, x, solver=config).state.square().sum().backward()

    assert_same(*both(Clamped, solver, train), tolerance=1e-5)


class Keeping(Plain):
    """Keeps its slopes for a look."""

    def __init__(self):
        super().__init__()
        self.slopes, self.by_time, self.last = [], {}, None

    def forward(self, t, x):
        self.last = slope = super().forward(t, x)
        self.slopes.append(slope)
        self.by_time[round(t, 3)] = slope
        return slope


@ALL
def test_features_that_no_loss_uses_do_not_stop_the_next_solve(solver):
    def train(field, x, config):
        block = ODEBlock(field, config)
        for _ in range(3):
            block(x).square().sum().backward()
        odeint(field, x, (0.0, 0.5, 1.0), config).states.sum().backward()

    assert_same(*both(Keeping, solver, train))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:gradient='adjoint'", "ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
@pytest.mark.parametrize("change", ["weight norm", "pruning", "kept"])
def test_the_adjoint_trains_fields_that_set_tensors_themselves(change, method):
    steps = {"steps": 20} if method == "rk4" else {"rtol": 1e-6, "atol": 1e-8}

    def train(field, x, config):
        if change == "weight norm":
            weight_norm(field.linear)
        if change == "pruning":
            prune.l1_unstructured(field.linear, "weight", 0.5)
        for _ in range(3):
            odeint(field, x, solver=config).state.square().sum().backward()

    found = both(Keeping if change == "kept" else Plain, SolverConfig(method, gradient="adjoint", **steps), train)
    for name, value in found[1].items():
        assert relative_error([found[0][name]], [value]) < 1e-3, name


@pytest.mark.parametrize(
    "solver", [SolverConfig("rk4", 5), SolverConfig("midpoint", 5, checkpoints=2), SolverConfig("dopri5")]
)
def test_a_continuous_normalizing_flow_is_solved_as_a_tuple(solver):
    class Flow(Plain):
        def forward(self, t, state):
            with torch.enable_grad():
                x = state[0] if state[0].requires_grad else state[0].detach().requires_grad_()
                slope = super().forward(t, x)
                parts = [torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(3)]
            return slope, -sum(parts)

    def train(field, x, config):
        end, density = odeint(field, (x, torch.zeros(4)), solver=config).state
        (end.square().sum() + density.sum()).backward()

    assert_same(*both(Flow, solver, train))
