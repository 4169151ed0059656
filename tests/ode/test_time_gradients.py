"""Times that want a gradient: closed forms, and torchdiffeq as a witness."""

import pytest
import torch
import torchdiffeq
from closed_form_problems import Turning
from solver_variants import fitting
from torch import Tensor

from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, SolverStats, odeint

SOLVERS = {
    "backprop": SolverConfig("rk4", 32, "backprop"),
    "checkpoint": SolverConfig("rk4", 32),
    "sqrt of checkpoints": SolverConfig("midpoint", 256, checkpoints="sqrt"),
    "reversible": SolverConfig("alf", 512, "reversible", state_dtype="float64"),
    "adaptive": fitting("dopri5", rtol=1e-9, atol=1e-9),
}
X0 = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_gradients_of_start_and_end_are_those_of_the_closed_form(solver):
    times, expected_times = double(0.2, 1.1), double(0.2, 1.1)
    end = odeint(lambda t, x: -1.5 * t * x, X0, times, solver, parameters=()).state
    expected = X0 * torch.exp(-0.75 * (expected_times[1] ** 2 - expected_times[0] ** 2))
    for outcome in (end, expected):
        outcome.square().sum().backward()
    torch.testing.assert_close(times.grad, expected_times.grad, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_gradients_of_inner_times_are_torchdiffeqs(gradient):
    found = []
    for solve in (
        lambda field, x, times: odeint(field, x, times, SolverConfig("rk4", 16, gradient)).states,
        lambda field, x, times: torchdiffeq.odeint_adjoint(field, x, times, rtol=1e-9, atol=1e-9),
    ):
        field, x, times = Turning(), X0.clone()[None].requires_grad_(), double(0.0, 0.3, 0.7, 1.0)
        states = solve(field, x, times)
        (states * torch.arange(1.0, 5.0).reshape(4, 1, 1)).square().sum().backward()
        found.append((times.grad, x.grad, field.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_states_are_those_of_the_same_times_as_numbers_and_the_evaluations_are_counted():
    times, field = double(0.0, 0.5, 1.0), Turning()
    learned, fixed = (odeint(field, X0, t, SolverConfig("rk4", 2)) for t in (times, times.tolist()))
    assert torch.equal(learned.states, fixed.states)
    assert learned.stats == fixed.stats + SolverStats(4, 0, 0)  # the inner time ends an interval and starts one
    with torch.no_grad():
        assert odeint(field, X0, times, SolverConfig("rk4", 2)).stats.nfe == fixed.stats.nfe


def test_a_second_derivative_with_respect_to_times_is_refused_by_torch():
    times = double(0.2, 1.1)
    end = odeint(lambda t, x: -1.5 * t * x, X0, times, SolverConfig("rk4", 8), parameters=()).state
    (slope,) = torch.autograd.grad(end.sum(), times, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        torch.autograd.grad(slope.sum(), times)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev], ids=["grad", "jacrev"])
def test_transforms_of_torch_func_by_times_are_refused(transform):
    def end(times):
        return odeint(lambda t, x: -x, X0, times, SolverConfig("euler", 4), parameters=()).state.sum()

    with pytest.raises(InputError, match=r"times have first derivatives by backward\(\) only"):
        transform(end)(double(0.0, 1.0))
