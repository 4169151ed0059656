"""States that are tuples of tensors."""

import math

import pytest
import torch
import torchdiffeq
from dense_times import DOUBLE, exact, randn, solvers
from solver_variants import fitting, solver_config
from torch import nn

from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, odeint


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
