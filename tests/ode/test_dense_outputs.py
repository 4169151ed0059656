"""States at many times, states of several tensors, and derivatives of all kinds through a solve."""

import pytest
import torch
import torchdiffeq
from closed_form_problems import PROBLEMS, Turning
from dense_times import DOUBLE, TIMES, exact, randn, solvers
from solver_variants import VARIANTS, solver_config

from odebackbones.ode import SolverConfig, odeint


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
