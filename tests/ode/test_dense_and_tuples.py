"""States at many times, states of several tensors, and derivatives of all kinds through a solve."""

import math

import pytest
import torch
import torchdiffeq
from closed_form_problems import PROBLEMS, ROTATION, CountedDecay, Turning
from solver_variants import VARIANTS, fitting, solver_config
from torch import nn

from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, odeint

DOUBLE = torch.float64
ASCENDING = (0.0, 0.1, 0.35, 0.4, 1.0, 1.7)
TIMES = {"ascending": ASCENDING, "descending": tuple(1.0 - 0.3 * t for t in ASCENDING)}
SOLVERS = {
    "backprop": SolverConfig("rk4", 8, "backprop"),
    "checkpoint": SolverConfig("rk4", 8, "checkpoint"),
    "two checkpoints": SolverConfig("rk4", 8, "checkpoint", checkpoints=2),
    "adaptive": SolverConfig("dopri5", gradient="checkpoint", rtol=1e-9, atol=1e-9),
    "reversible": SolverConfig("alf", 200, "reversible", state_dtype="float64"),
}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
exact = pytest.mark.parametrize("solver", list(SOLVERS.values())[:3], ids=list(SOLVERS)[:3])


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
@solvers
@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("name", ["linear decay", "damped rotation", "logistic growth"])
def test_the_states_are_those_of_the_closed_form_at_all_times(name, times, solver):
    problem = PROBLEMS[name]
    solution = odeint(problem.vector_field, problem.state.clone().requires_grad_(), times, solver, parameters=())
    expected = torch.stack([problem.solution(t - times[0], problem.state) for t in times])
    torch.testing.assert_close(solution.states.detach(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(solution.states[0], problem.state)
    assert torch.equal(solution.states[-1], solution.state)


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize(("method", "other"), [("euler", "euler"), ("midpoint", "midpoint"), ("rk4", "rk4")])
def test_with_steps_from_each_time_to_the_next_the_states_are_torchdiffeqs(method, other, times):
    field, x = Turning(), randn(2, 3)
    states = odeint(field, x, times, SolverConfig(method, 1)).states
    expected = torchdiffeq.odeint(field, x, torch.tensor(times, dtype=DOUBLE), method=other)  # without a step_size
    torch.testing.assert_close(states, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "lm"])
def test_each_interval_is_a_solve_of_its_own(variant):
    field, x, solver = Turning(), randn(2, 3), solver_config(variant, 3)
    solution = odeint(field, x, (0.0, 0.2, 0.3), solver)
    first = odeint(field, x, (0.0, 0.2), solver)
    second = odeint(field, first.state, (0.2, 0.3), solver)
    assert torch.equal(solution.states, torch.stack([x, first.state, second.state]))
    assert solution.stats == first.stats + second.stats
    assert first.states is None


@exact
def test_gradients_flow_from_all_times(solver):
    times, rate, x = (0.0, 0.5, 1.0, 2.0), torch.tensor(-0.7, dtype=DOUBLE), randn(2, 3)
    weights, gradients = randn(4, 2, 3, seed=2), []

    def closed_form(rate, x):
        return torch.stack([x * torch.exp(rate * t) for t in times])

    def solved(rate, x):
        return odeint(lambda t, x: rate * x, x, times, solver, parameters=(rate,)).states

    for states in (closed_form, solved):
        wanted = rate.clone().requires_grad_(), x.clone().requires_grad_()
        gradients.append(torch.autograd.grad((weights * states(*wanted)).sum(), wanted))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_gradients_from_all_times_are_those_of_torchdiffeq(times):
    weights, gradients = randn(len(times), 2, 3, seed=2), []
    for solve in (
        lambda f, x: odeint(f, x, times, SolverConfig("rk4", 1)).states,
        lambda f, x: torchdiffeq.odeint(f, x, torch.tensor(times, dtype=DOUBLE), method="rk4"),
    ):
        field, x = Turning(), randn(2, 3).requires_grad_()
        gradients.append(torch.autograd.grad((weights * solve(field, x)).sum(), (x, field.weight)))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def oscillator(t, state):
    """q'' = -q, as a system of first order in q and p = q'."""
    q, p = state
    return p, -q


@solvers
def test_a_second_order_system_is_a_tuple_of_place_and_velocity(solver):
    q, p = randn(2, 3).requires_grad_(), randn(2, 3, seed=1)
    times = (0.0, 0.5, 1.0)
    solution = odeint(oscillator, (q, p), times, solver, parameters=())
    for t, *found in zip(times, *solution.states, strict=True):
        expected = q * math.cos(t) + p * math.sin(t), p * math.cos(t) - q * math.sin(t)
        torch.testing.assert_close(tuple(found), expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(part, states[-1]) for part, states in zip(solution.state, solution.states, strict=True))
    (slope,) = torch.autograd.grad(solution.state[0].sum(), q)
    torch.testing.assert_close(slope, torch.full_like(q, math.cos(1.0)), rtol=1e-4, atol=0.0)


SHAPES = {"a vector": (4,), "images": (2, 3, 4, 5), "nothing": (0, 3), "a scalar": ()}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("variant", ["rk4", "ab3", "leapfrog", "alf", "reversible_heun", "implicit_euler of degree 2"])
def test_a_tuple_of_uncoupled_parts_is_solved_as_each_on_its_own(variant, shape):
    parts, rates, solver = (randn(2, 3), randn(*shape, seed=1)), (-1.0, 0.5), solver_config(variant, 4)

    def field(t, state):
        return tuple((rate + t) * torch.sin(part) for rate, part in zip(rates, state, strict=True))

    together = odeint(field, parts, (0.1, 0.9), solver, parameters=())
    for rate, part, end in zip(rates, parts, together.state, strict=True):
        alone = odeint(lambda t, x, rate=rate: (rate + t) * torch.sin(x), part, (0.1, 0.9), solver, parameters=())
        assert end.shape == part.shape
        torch.testing.assert_close(end, alone.state, rtol=1e-13, atol=1e-14)
        assert together.stats == alone.stats or part.numel() == 0


@exact
def test_coupled_parts_are_solved_as_one_concatenated_system(solver):
    x, y, weight = randn(2, 3), randn(2, 1, seed=1), nn.Parameter(randn(4, 4, seed=2))

    def concatenated(t, z):
        return torch.tanh(z @ weight)

    def coupled(t, state):
        return tuple(torch.split(concatenated(t, torch.cat(state, dim=1)), [3, 1], dim=1))

    ends = [
        torch.cat(odeint(coupled, (x, y), (0.0, 1.0), solver, parameters=(weight,)).state, dim=1),
        odeint(concatenated, torch.cat((x, y), dim=1), (0.0, 1.0), solver, parameters=(weight,)).state,
    ]
    torch.testing.assert_close(*ends, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(*(torch.autograd.grad(end.square().sum(), weight)[0] for end in ends))


def quiet_and_loud(t, state):
    """Two numbers that turn fast, beside 10,000 that rest."""
    loud, quiet = state
    return torch.stack([6.0 * loud[1], -6.0 * loud[0]]), torch.zeros_like(quiet)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dopri5", "bosh3", "adaptive_heun", "dopri8"])
@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
def test_every_part_of_a_tuple_keeps_to_the_tolerance_as_in_torchdiffeq(method, gradient, recwarn):
    state = torch.tensor([1.0, 0.0], dtype=DOUBLE).requires_grad_(), torch.zeros(10_000, dtype=DOUBLE)
    solver = SolverConfig(method, gradient=gradient, rtol=1e-4, atol=1e-6)
    solution = odeint(quiet_and_loud, state, (0.0, 1.0), solver, parameters=())
    times, options = torch.tensor([0.0, 1.0], dtype=DOUBLE), {"step_t": torch.tensor([1.0], dtype=DOUBLE)}
    expected = torchdiffeq.odeint(quiet_and_loud, state, times, rtol=1e-4, atol=1e-6, method=method, options=options)
    torch.testing.assert_close(solution.state[0], expected[0][-1], rtol=1e-9, atol=1e-10)
    exact = torch.tensor([math.cos(6.0), -math.sin(6.0)], dtype=DOUBLE)
    assert (solution.state[0] - exact).abs().max() < 3e-3


def test_the_iterations_of_implicit_euler_converge_in_every_part_of_a_tuple():
    def field(t, state):
        return -state[0], torch.zeros_like(state[1])

    solver = SolverConfig("implicit_euler", 4, rtol=1e-6, atol=1e-12)
    small, _ = odeint(field, (torch.full((2,), 1e-6, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE)), solver=solver).state
    torch.testing.assert_close(small, torch.full((2,), 1e-6 / 1.25**4, dtype=DOUBLE), rtol=1e-5, atol=0.0)


class NormalizedPair(nn.Module):
    """A field of pairs with a normalization layer."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, dtype=DOUBLE)

    def forward(self, t, state):
        return self.norm(state[0]), -state[1]


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_the_modules_of_a_field_of_tuples_are_seen(method):
    seen = []
    for gradient in ("backprop", "checkpoint"):
        field = NormalizedPair()
        end = odeint(field, (randn(4, 3), randn(2)), solver=fitting(method, steps=2, gradient=gradient)).state
        (end[0].square().sum() + end[1].sum()).backward()
        seen.append(field)
    assert all(map(torch.equal, *(field.buffers() for field in seen)))
    assert seen[0].norm.num_batches_tracked >= 8
    torch.testing.assert_close(*(field.norm.weight.grad for field in seen), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ((torch.ones(2), torch.ones(2, dtype=DOUBLE)), "differ in dtype or device"),
        ((torch.ones(2), torch.ones(2, device="meta")), "differ in dtype or device"),
        ((), "or there are none"),
    ],
)
def test_a_tuple_of_unlike_tensors_is_refused(state, words):
    with pytest.raises(InputError, match=words):
        odeint(lambda t, state: state, state, parameters=())


@pytest.mark.parametrize(
    "slopes",
    [
        lambda q, p: (p,),
        lambda q, p: (p, q),
        lambda q, p: (q, p.sum()),
        lambda q, p: (q, p, p),
        lambda q, p: torch.cat((q, p)),
    ],
)
def test_slopes_of_other_shapes_than_the_state_are_refused(slopes):
    with pytest.raises(InputError, match=r"gives .* for a state of .*: return (a tuple of as many|slopes of the)"):
        odeint(lambda t, state: slopes(*state), (torch.ones(2), torch.ones(3)), parameters=())


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_a_state_of_other_numbers_is_refused(dtype):
    with pytest.raises(InputError, match=rf"state of {dtype}: expected real floating point"):
        odeint(lambda t, x: -x, torch.ones(3, dtype=dtype), solver=SolverConfig("rk4", 3, "backprop"))


def test_the_name_of_a_solver_is_no_solver():
    with pytest.raises(InputError, match=r"solver='rk4': expected a SolverConfig, such as SolverConfig\('rk4'"):
        odeint(lambda t, x: -x, torch.ones(3), (0.0, 1.0), "rk4")


FLOW = torch.linalg.matrix_exp(ROTATION).T
"""x(1) = x(0) @ FLOW for the damped rotation."""


def rotated(x, solver):
    return odeint(lambda t, x: x @ ROTATION.T, x, (0.0, 1.0), solver, parameters=()).state


@pytest.mark.slow
@exact
@pytest.mark.parametrize("jacobian", [torch.func.jacrev, torch.func.jacfwd], ids=["jacrev", "jacfwd"])
@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch scripts its own formulae for jacfwd
def test_the_jacobian_of_a_linear_flow_is_the_flow(jacobian, solver):
    found = jacobian(lambda x: rotated(x, solver))(randn(2))
    torch.testing.assert_close(found, FLOW.T, rtol=1e-3, atol=1e-4)


@exact
def test_a_product_with_a_tangent_is_the_flow_of_the_tangent(solver):
    x, tangent = randn(2), randn(2, seed=1)
    end, moved = torch.func.jvp(lambda x: rotated(x, solver), (x,), (tangent,))
    torch.testing.assert_close(end, rotated(x, solver), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(moved, rotated(tangent, solver), rtol=1e-13, atol=1e-13)


def loss(weight, x, solver):
    def field(t, x):
        return torch.tanh((1.0 + t) * x @ weight)

    return odeint(field, x, (0.0, 1.0), solver, parameters=(weight,)).state.square().sum()


@exact
def test_grad_is_that_of_autograd(solver):
    weight, x = randn(3, 3, seed=1), randn(2, 3)
    found = torch.func.grad(loss, argnums=(0, 1))(weight, x, solver)
    wanted = weight.requires_grad_(), x.requires_grad_()
    expected = torch.autograd.grad(loss(*wanted, SOLVERS["backprop"]), wanted)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)


@exact
def test_vmap_over_states_is_a_batch_and_over_weights_an_ensemble(solver):
    x, weights = randn(5, 3), randn(4, 3, 3, seed=3)

    def end(weight, x):
        return odeint(lambda t, x: torch.tanh(x @ weight), x, (0.0, 1.0), solver, parameters=(weight,)).state

    torch.testing.assert_close(torch.func.vmap(end, in_dims=(None, 0))(weights[0], x), end(weights[0], x))
    ensemble = torch.func.vmap(end, in_dims=(0, None))(weights, x)
    torch.testing.assert_close(ensemble, torch.stack([end(weight, x) for weight in weights]))


@exact
def test_gradients_of_each_sample_come_of_vmap_over_grad(solver):
    weight, x = randn(3, 3, seed=1), randn(5, 3)
    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, None))(weight, x, solver)
    for row, slope in zip(x, found, strict=True):
        wanted = weight.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(wanted, row, SOLVERS["backprop"]), wanted)
        torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@exact
def test_second_derivatives_equal_finite_differences(solver):
    def end(x, weight):
        return odeint(lambda t, x: torch.tanh((1 + t) * x @ weight), x, (0.2, 0.6), solver, parameters=(weight,)).state

    inputs = randn(1, 2).requires_grad_(), randn(2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(end, inputs)


@exact
def test_the_second_derivative_by_the_rate_is_that_of_the_closed_form(solver):
    rate, x = torch.tensor(-0.7, dtype=DOUBLE, requires_grad=True), randn(3).abs()
    end = odeint(lambda t, x: rate * x, x.requires_grad_(), (0.0, 2.0), solver, parameters=(rate,)).state.sum()
    (first,) = torch.autograd.grad(end, rate, create_graph=True)  # t x0 exp(r t)
    second, mixed = torch.autograd.grad(first, (rate, x))  # t^2 x0 exp(r t), and t exp(r t)
    torch.testing.assert_close(second, 4.0 * (x * math.exp(-1.4)).sum().detach(), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(mixed, torch.full_like(x, 2.0 * math.exp(-1.4)), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("data_wants_gradient", [True, False])
@pytest.mark.parametrize("checkpoints", ["every", 2])
def test_a_penalty_on_gradients_trains_as_by_backprop(checkpoints, data_wants_gradient):
    found = []
    for solver in (SolverConfig("rk4", 4, checkpoints=checkpoints), SolverConfig("rk4", 4, "backprop")):
        field, x = Turning(), randn(2, 3).requires_grad_(data_wants_gradient)
        wanted = (field.weight, x) if data_wants_gradient else (field.weight,)
        end = odeint(field, x, solver=solver).state.square().sum()
        slopes = torch.autograd.grad(end, wanted, create_graph=True)
        sum(slope.square().sum() for slope in slopes).backward()
        found.append(field.weight.grad)
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("checkpoints", ["every", 2])
def test_second_derivatives_of_a_random_field_draw_as_the_forward_pass_did(checkpoints):
    found = []
    for solver in (SolverConfig("rk4", 4, checkpoints=checkpoints), SolverConfig("rk4", 4, "backprop")):
        field, x = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3)).double(), randn(2, 3)
        for p in field.parameters():
            nn.init.normal_(p, generator=torch.Generator().manual_seed(p.numel()))
        torch.manual_seed(5)
        end = odeint(Timeless(field), x.requires_grad_(), solver=solver).state.square().sum()
        (slope,) = torch.autograd.grad(end, x, create_graph=True)
        slope.square().sum().backward()
        found.append([p.grad for p in field.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-12)


class Timeless(nn.Module):
    """A network as a field that the time does not change."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, t, x):
        return self.network(x)


def test_a_solve_of_many_times_counts_all_its_evaluations():
    field = CountedDecay()
    stats = odeint(field, randn(2), ASCENDING, SolverConfig("heun", 3, "backprop")).stats
    assert (stats.nfe, stats.steps) == (len(field.times), 15) == (30, 15)
