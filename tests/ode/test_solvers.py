"""Solvers: order of convergence, parity with torchdiffeq, counted costs, and errors that say what to do."""

import math

import pytest
import torch
import torchdiffeq
from closed_form_problems import PROBLEMS
from torch import nn

from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, SolverStats, odeint
from odebackbones.ode.solvers import evaluation_times, uniform_grid
from odebackbones.ode.tableaus import TABLEAUS

TORCHDIFFEQ_NAMES = {"euler": "euler", "midpoint": "midpoint", "heun": "heun2"}  # its "rk4" is the 3/8 rule
DOUBLE, SINGLE = torch.float64, torch.float32


class CountingField(nn.Module):
    """A linear field that writes down the times at which it is evaluated."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(-0.7))
        self.times = []

    def forward(self, t, x):
        self.times.append(t)
        return self.rate * x


def end_state(problem, method, steps, dtype=DOUBLE):
    solver = SolverConfig(method, steps, "backprop")
    return odeint(problem.vector_field, problem.state.to(dtype), problem.t_span, solver).state


def classic_rk4(problem, steps, dtype):
    """Kutta's method, written out: an oracle independent of the tableau."""
    f, x, (t, t1) = problem.vector_field, problem.state.to(dtype), problem.t_span
    h = (t1 - t) / steps
    for i in range(steps):
        s = t + i * h
        k1 = f(s, x)
        k2 = f(s + h / 2, x + h / 2 * k1)
        k3 = f(s + h / 2, x + h / 2 * k2)
        k4 = f(s + h, x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def torchdiffeq_end_state(problem, method, steps, dtype):
    t = torch.tensor(problem.t_span, dtype=dtype)
    options = {"step_size": abs(problem.t_span[1] - problem.t_span[0]) / steps}  # without it: one single step
    return torchdiffeq.odeint(
        problem.vector_field, problem.state.to(dtype), t, method=TORCHDIFFEQ_NAMES[method], options=options
    )[-1]


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", TABLEAUS)
def test_the_error_shrinks_with_the_stated_order(method, name):
    problem = PROBLEMS[name]
    errors = [(end_state(problem, method, steps) - problem.end()).norm().item() for steps in (128, 256)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(TABLEAUS[method].order, abs=0.1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_many_rk4_steps_reach_the_closed_form(name):
    torch.testing.assert_close(end_state(PROBLEMS[name], "rk4", 256), PROBLEMS[name].end(), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("method", TABLEAUS)
def test_a_tableau_is_explicit_and_consistent(method):
    tableau = TABLEAUS[method]
    assert [len(row) for row in tableau.a] == list(range(tableau.stages))
    assert len(tableau.b) == tableau.stages
    assert [sum(row) for row in tableau.a] == pytest.approx(tableau.c)
    assert sum(tableau.b) == pytest.approx(1.0)


@pytest.mark.parametrize("method", TABLEAUS)
def test_a_tableau_meets_the_conditions_of_its_order_and_not_of_the_next(method):
    tableau = TABLEAUS[method]
    s = tableau.stages
    a = torch.tensor([[*row, *[0.0] * (s - len(row))] for row in tableau.a], dtype=DOUBLE)
    b, c = torch.tensor(tableau.b, dtype=DOUBLE), torch.tensor(tableau.c, dtype=DOUBLE)
    conditions = {  # one per rooted tree: Hairer, Nørsett, Wanner 1993, table II.2.2; of order 5 the bushy tree only
        1: [(b.sum(), 1.0)],
        2: [(b @ c, 1 / 2)],
        3: [(b @ c**2, 1 / 3), (b @ a @ c, 1 / 6)],
        4: [(b @ c**3, 1 / 4), (b @ (c * (a @ c)), 1 / 8), (b @ a @ c**2, 1 / 12), (b @ a @ a @ c, 1 / 24)],
        5: [(b @ c**4, 1 / 5)],
    }
    met = {order: all(abs(x.item() - y) < 1e-14 for x, y in pairs) for order, pairs in conditions.items()}
    assert all(met[order] for order in range(1, tableau.order + 1))
    assert not met[tableau.order + 1]


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (SINGLE, 1e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", TORCHDIFFEQ_NAMES)
def test_the_same_steps_give_torchdiffeqs_state(method, name, dtype, tolerance):
    expected = torchdiffeq_end_state(PROBLEMS[name], method, 8, dtype)
    coarser = torchdiffeq_end_state(PROBLEMS[name], method, 4, dtype)
    assert not torch.allclose(expected, coarser, rtol=1e-4)  # torchdiffeq did take our steps
    torch.testing.assert_close(end_state(PROBLEMS[name], method, 8, dtype), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (SINGLE, 1e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_rk4_is_the_classic_one(name, dtype, tolerance):
    expected = classic_rk4(PROBLEMS[name], 8, dtype)
    torch.testing.assert_close(end_state(PROBLEMS[name], "rk4", 8, dtype), expected, rtol=tolerance, atol=tolerance)


def test_rk4_is_not_torchdiffeqs_three_eighths_rule():
    problem = PROBLEMS["logistic growth"]
    times = torch.tensor(problem.t_span, dtype=DOUBLE)
    other = torchdiffeq.odeint(problem.vector_field, problem.state, times, method="rk4", options={"step_size": 0.5})[-1]
    difference = (end_state(problem, "rk4", 4) - other).abs().max()
    assert 1e-9 < difference < 1e-3  # same order, other error


@pytest.mark.parametrize("method", TABLEAUS)
def test_back_and_forth_returns_to_the_start(method):
    problem = PROBLEMS["growth at a rate cos t"]
    solver = SolverConfig(method, 512, "backprop")
    there = odeint(problem.vector_field, problem.state, problem.t_span, solver).state
    back = odeint(problem.vector_field, there, problem.t_span[::-1], solver).state
    assert not torch.allclose(there, problem.state, rtol=0.1)
    torch.testing.assert_close(back, problem.state, rtol=1e-2, atol=0.0)


def test_a_grid_starts_each_step_where_the_last_one_ended():
    assert uniform_grid((1.0, 3.0), 4) == [(1.0, 0.5), (1.5, 0.5), (2.0, 0.5), (2.5, 0.5)]
    assert uniform_grid((1.0, 0.0), 2) == [(1.0, -0.5), (0.5, -0.5)]


@pytest.mark.parametrize("t_span", [(0.0, 1.0), (2.0, -1.0)])
@pytest.mark.parametrize("steps", [1, 3, 7, 10])
@pytest.mark.parametrize("method", TABLEAUS)
def test_evaluation_times_are_those_of_a_solve(method, steps, t_span):
    field, solver = CountingField(), SolverConfig(method, steps)
    odeint(field, torch.ones(1, 2), t_span, solver)
    times = evaluation_times(solver, t_span)
    assert times == sorted(times)
    assert {round(t, 9) for t in times} == {round(t, 9) for t in field.times}
    assert len(times) == len({round(t, 9) for t in times})


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
@pytest.mark.parametrize("method", TABLEAUS)
def test_the_statistics_are_what_a_counting_field_counts(method, gradient):
    field, steps = CountingField(), 3
    solution = odeint(field, torch.ones(2, 3), solver=SolverConfig(method, steps, gradient))
    forward = len(field.times)
    solution.state.sum().backward()
    backward = len(field.times) - forward
    assert solution.stats == SolverStats(nfe=forward, nfe_backward=backward, steps=steps, rejected=0)
    assert forward == steps * TABLEAUS[method].stages
    assert backward == (forward if gradient == "checkpoint" else 0)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_no_evaluation_is_promised_to_a_backward_pass_that_cannot_come(gradient, guard):
    solver = SolverConfig("heun", 3, gradient)
    with guard():
        assert odeint(CountingField(), torch.ones(2, 3), solver=solver).stats == SolverStats(6, 0, 3)
    detached = odeint(lambda t, x: -x, torch.ones(2, 3), solver=solver, parameters=())
    assert detached.stats == SolverStats(6, 0, 3)


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_the_default_solver_runs_in_both_gradient_modes(gradient):
    field, state = CountingField(), torch.rand(2, 3, 4)
    default = odeint(field, state)
    explicit = odeint(field, state, (0.0, 1.0), SolverConfig("midpoint", 4, gradient))
    assert default.state.shape == state.shape
    assert torch.equal(default.state, explicit.state)


def test_an_unknown_solver_is_refused_with_the_near_names():
    with pytest.raises(InputError, match=r"unknown solver 'midpiont'; did you mean 'midpoint'\?"):
        SolverConfig("midpiont")


def test_an_unlike_solver_name_is_refused_with_all_names():
    with pytest.raises(InputError, match=r"unknown solver 'zzz'; known: euler, heun, midpoint, rk4"):
        SolverConfig("zzz")


def test_an_unknown_gradient_mode_is_refused_with_the_near_names():
    with pytest.raises(InputError, match=r"unknown gradient mode 'backprob'; did you mean 'backprop'\?"):
        SolverConfig(gradient="backprob")


@pytest.mark.parametrize("steps", [0, -1, True, 1.5, "4", None])
def test_steps_that_count_nothing_are_refused(steps):
    with pytest.raises(InputError, match=rf"steps={steps!r}: expected a whole number of at least 1"):
        SolverConfig(steps=steps)


def test_an_empty_time_span_is_refused():
    with pytest.raises(InputError, match=r"t_span=\(0.5, 0.5\): start and end are equal"):
        odeint(CountingField(), torch.ones(1), (0.5, 0.5))


def test_a_closure_without_parameters_is_refused_where_they_are_needed():
    with pytest.raises(InputError, match=r"pass parameters=\(\.\.\.\).*or use gradient='backprop'"):
        odeint(lambda t, x: -x, torch.ones(1), solver=SolverConfig(gradient="checkpoint"))
