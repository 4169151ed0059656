"""Solvers: order of convergence, parity with torchdiffeq, counted costs, and grids."""

import math
from dataclasses import replace

import pytest
import torch
import torchdiffeq
from closed_form_problems import PROBLEMS
from solver_variants import ONE_STEP, VARIANTS, planned, solver_config
from torch import nn

from odebackbones.ode import METHODS, SolverConfig, SolverStats, build_method, odeint
from odebackbones.ode.grids import distinct_times
from odebackbones.ode.integrate import integrate
from odebackbones.ode.methods.runge_kutta import RungeKutta
from odebackbones.ode.methods.tableaus import ADAPTIVE_TABLEAUS, TABLEAUS
from odebackbones.ode.solvers import evaluation_times, uniform_grid, with_changes

ALL_TABLEAUS = {**TABLEAUS, **ADAPTIVE_TABLEAUS}
TORCHDIFFEQ_NAMES = {name: m.torchdiffeq for name, m in METHODS.items() if m.build and m.torchdiffeq}
ORDERS = {name: METHODS[config["method"]].order for name, config in VARIANTS.items()} | {"damped alf": 1}
STEPS = {"alf": 256, "reversible_heun": 256}  # 128 do for the others
UNEVEN = ["ab2", "ab3", "leapfrog", "alf", "reversible_heun", "rk4", "implicit_euler"]
TIGHT = {"rtol": 1e-12, "atol": 1e-13}  # of implicit_euler's iterations
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


def solve(problem, solver, dtype=DOUBLE):
    """The end state; unlike odeint, this solves by ``lm``, too."""
    method = build_method(solver, problem.t_span)
    return integrate(problem.vector_field, method, problem.state.to(dtype), solver)[0].detach()


def observed_order(problem, solver, steps):
    """The order by which the error shrinks from ``steps`` to twice as many; grids are the solver's, or even."""
    errors = [(solve(problem, solver(n)) - problem.end()).norm().item() for n in (steps, 2 * steps)]
    return math.log2(errors[0] / errors[1])


def smooth_grid(steps):
    """Uneven steps whose lengths vary smoothly, from 1.4 to 0.6 times the mean."""
    fractions = [i / steps for i in range(1, steps + 1)]
    return (*(s + 0.4 / math.tau * math.sin(math.tau * s) for s in fractions[:-1]), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_error_shrinks_with_the_stated_order(variant, name):
    def solver(n):
        return replace(solver_config(variant, n, "backprop"), **(TIGHT if variant == "implicit_euler" else {}))

    order = observed_order(PROBLEMS[name], solver, STEPS.get(variant, 128))
    assert order == pytest.approx(ORDERS[variant], abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("variant", UNEVEN)
def test_the_order_holds_on_smooth_uneven_grids(variant, name):
    def solver(n):
        tight = TIGHT if variant == "implicit_euler" else {}
        return with_changes(solver_config(variant, gradient="backprop"), grid=smooth_grid(n), **tight)

    order = observed_order(PROBLEMS[name], solver, 2 * STEPS.get(variant, 64))
    assert order == pytest.approx(ORDERS[variant], abs=0.1)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", ["leapfrog", "alf", "reversible_heun"])
def test_fixed_point_states_have_the_methods_order(method, name):
    def solver(n):
        return SolverConfig(method, n, "backprop", state_dtype="float64")

    assert observed_order(PROBLEMS[name], solver, 256) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("k", [0.5, -0.3])
@pytest.mark.parametrize("name", ["linear decay", "damped rotation", "logistic growth"])
def test_lm_with_constant_coefficients_slows_time_down(name, k):
    problem, errors = PROBLEMS[name], []
    expected = problem.solution(problem.t_span[1] / (1 + k), problem.state)  # (1 + k) x' = f(x)
    for steps in (256, 512):
        method = build_method(SolverConfig("lm", steps), problem.t_span)
        nn.init.constant_(method.coefficients, k)
        errors.append((method.solve(problem.vector_field, problem.state) - expected).norm().item())
    assert errors[1] < 0.02
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_lm_with_the_coefficients_it_starts_with_is_euler(name):
    ends = [solve(PROBLEMS[name], SolverConfig(method, 8, "backprop")) for method in ("lm", "euler")]
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", ["rk4", "rk4_classic"])
def test_many_steps_of_order_four_reach_the_closed_form(method, name):
    end = solve(PROBLEMS[name], SolverConfig(method, 256, "backprop"))
    torch.testing.assert_close(end, PROBLEMS[name].end(), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("method", ALL_TABLEAUS)
def test_a_tableau_is_explicit_and_consistent(method):
    tableau = ALL_TABLEAUS[method]
    assert [len(row) for row in tableau.a] == list(range(tableau.stages))
    assert len(tableau.b) == tableau.stages
    assert [sum(row) for row in tableau.a] == pytest.approx(tableau.c)
    assert sum(tableau.b) == pytest.approx(1.0)


def order_conditions(tableau):
    """Pairs that are equal, by order, one per rooted tree: Hairer, Nørsett, Wanner 1993, table II.2.2.

    From order 6 on the bushy trees, the tall ones, and those with one branch of two.
    """
    s = tableau.stages
    a = torch.tensor([[*row, *[0.0] * (s - len(row))] for row in tableau.a], dtype=DOUBLE)
    b, c = torch.tensor(tableau.b, dtype=DOUBLE), torch.tensor(tableau.c, dtype=DOUBLE)
    ac = a @ c
    return {
        1: [(b.sum(), 1.0)],
        2: [(b @ c, 1 / 2)],
        3: [(b @ c**2, 1 / 3), (b @ ac, 1 / 6)],
        4: [(b @ c**3, 1 / 4), (b @ (c * ac), 1 / 8), (b @ a @ c**2, 1 / 12), (b @ a @ ac, 1 / 24)],
        5: [
            *[(b @ c**4, 1 / 5), (b @ (c**2 * ac), 1 / 10), (b @ (c * (a @ c**2)), 1 / 15)],
            *[(b @ (c * (a @ ac)), 1 / 30), (b @ ac**2, 1 / 20), (b @ a @ c**3, 1 / 20)],
            *[(b @ a @ (c * ac), 1 / 40), (b @ a @ a @ c**2, 1 / 60), (b @ a @ a @ ac, 1 / 120)],
        ],
        **{
            n: [
                (b @ c ** (n - 1), 1 / n),
                (b @ torch.linalg.matrix_power(a, n - 2) @ c, 1 / math.factorial(n)),
                (b @ (c ** (n - 3) * ac), 1 / (2 * n)),
            ]
            for n in (6, 7, 8, 9)
        },
    }


@pytest.mark.parametrize("method", ALL_TABLEAUS)
def test_a_tableau_meets_the_conditions_of_its_order_and_not_of_the_next(method):
    tableau = ALL_TABLEAUS[method]
    met = {n: all(abs(x - y) < 1e-14 for x, y in pairs) for n, pairs in order_conditions(tableau).items()}
    assert all(met[order] for order in range(1, tableau.order + 1))
    assert not met[tableau.order + 1]


ASYMPTOTIC = {  # where the error follows the order, and does not yet drown in rounding
    "adaptive_heun": [("damped rotation", 64), ("logistic growth", 64)],
    "bosh3": [("damped rotation", 64), ("logistic growth", 128)],
    "dopri5": [("damped rotation", 32), ("growth at a rate cos t", 32)],
    "dopri8": [("rate cos t, backward in time", 4), ("logistic growth", 8)],
}


@pytest.mark.parametrize(("method", "name", "steps"), [(m, *case) for m, cases in ASYMPTOTIC.items() for case in cases])
def test_an_adaptive_methods_tableau_on_a_fixed_grid_has_its_order(method, name, steps):
    problem, errors, tableau = PROBLEMS[name], [], ADAPTIVE_TABLEAUS[method]
    for n in (steps, 2 * steps):
        fixed = RungeKutta(tableau=tableau, grid=uniform_grid(problem.t_span, n))
        errors.append((fixed.solve(problem.vector_field, problem.state) - problem.end()).norm().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(METHODS[method].order, abs=0.15)


def torchdiffeq_end_state(problem, method, steps, dtype):
    t = torch.tensor(problem.t_span, dtype=dtype)
    options = {"step_size": abs(problem.t_span[1] - problem.t_span[0]) / steps}  # without it: one single step
    return torchdiffeq.odeint(
        problem.vector_field, problem.state.to(dtype), t, method=TORCHDIFFEQ_NAMES[method], options=options
    )[-1]


def test_names_that_torchdiffeq_has_are_known_to_the_parity_test():
    assert TORCHDIFFEQ_NAMES == {"euler": "euler", "midpoint": "midpoint", "heun": "heun2", "rk4": "rk4"}


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (SINGLE, 1e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", TORCHDIFFEQ_NAMES)
def test_the_same_steps_give_torchdiffeqs_state(method, name, dtype, tolerance):
    expected = torchdiffeq_end_state(PROBLEMS[name], method, 8, dtype)
    coarser = torchdiffeq_end_state(PROBLEMS[name], method, 2, dtype)
    assert not torch.allclose(expected, coarser, rtol=1e-5, atol=0.0)  # torchdiffeq did take our steps
    end = solve(PROBLEMS[name], SolverConfig(method, 8, "backprop"), dtype)
    torch.testing.assert_close(end, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "lm"])
def test_back_and_forth_returns_to_the_start(variant):
    problem, solver = PROBLEMS["growth at a rate cos t"], solver_config(variant, 512, "backprop")
    there = odeint(problem.vector_field, problem.state, problem.t_span, solver).state
    back = odeint(problem.vector_field, there, problem.t_span[::-1], solver).state
    assert not torch.allclose(there, problem.state, rtol=0.1)
    torch.testing.assert_close(back, problem.state, rtol=1e-2, atol=0.0)


def test_a_grid_starts_each_step_where_the_last_one_ended():
    assert uniform_grid((1.0, 3.0), 4) == [(1.0, 0.5), (1.5, 0.5), (2.0, 0.5), (2.5, 0.5)]
    assert uniform_grid((1.0, 0.0), 2) == [(1.0, -0.5), (0.5, -0.5)]


def test_fractions_are_the_ends_of_uneven_steps():
    solver = SolverConfig("euler", grid=(0.25, 0.75, 1.0))
    assert build_method(solver, (1.0, 3.0)).grid == [(1.0, 0.5), (1.5, 1.0), (2.5, 0.5)]
    assert build_method(solver, (1.0, -1.0)).grid == [(1.0, -0.5), (0.5, -1.0), (-0.5, -0.5)]


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "lm"])
def test_an_even_grid_of_fractions_is_that_of_steps(variant):
    problem, even = PROBLEMS["damped rotation"], solver_config(variant, 4, "backprop")
    written = with_changes(even, grid=(0.25, 0.5, 0.75, 1.0))
    assert torch.equal(solve(problem, written), solve(problem, even))


def test_times_that_rounding_set_apart_are_one():
    assert distinct_times([0.3, 0.1, 0.1 + 1e-12, 0.3 - 1e-12, 0.2], length=1.0) == [0.1, 0.2, 0.3 - 1e-12]
    assert distinct_times([0.0, 1e-12], length=-1e-12) == [0.0, 1e-12]


@pytest.mark.parametrize("t_span", [(0.0, 1.0), (2.0, -1.0)])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("variant", planned(VARIANTS))
def test_evaluation_times_are_those_of_a_solve(variant, steps, t_span):
    field, solver = CountingField(), solver_config(variant, steps)
    integrate(field, build_method(solver, t_span), torch.ones(1, 2), solver)
    times = evaluation_times(solver, t_span)
    assert times == sorted(times)
    assert {round(t, 9) for t in times} == {round(t, 9) for t in field.times}
    assert len(times) == len({round(t, 9) for t in times})


def test_an_adaptive_methods_times_are_those_of_its_steps():
    assert evaluation_times(SolverConfig("dopri5", nodes=4), (0.0, 2.0)) == [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_statistics_are_what_a_counting_field_counts(variant, gradient):
    field, steps, solver = CountingField(), 5, solver_config(variant, 5, gradient)
    end, stats = integrate(field, build_method(solver), torch.ones(2, 3), solver)
    forward = len(field.times)
    end.sum().backward()
    backward = len(field.times) - forward
    assert stats == SolverStats(nfe=forward, nfe_backward=backward, steps=steps, rejected=0)
    assert backward == (forward if gradient == "checkpoint" else 0)
    if variant in ONE_STEP:
        assert forward == steps * ONE_STEP[variant]


def test_multistep_methods_evaluate_the_field_once_a_step_after_their_start():
    nfe = {method: odeint(CountingField(), torch.ones(1), solver=SolverConfig(method, 10)).stats.nfe
           for method in ("ab2", "ab3", "leapfrog", "alf", "reversible_heun")}  # fmt: skip
    assert nfe == {"ab2": 2 + 9, "ab3": 2 * 3 + 8, "leapfrog": 10, "alf": 1 + 10, "reversible_heun": 10 + 1}


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("gradient", ["checkpoint", "backprop", "reversible"])
def test_no_evaluation_is_promised_to_a_backward_pass_that_cannot_come(gradient, guard):
    solver = SolverConfig("leapfrog", 6, gradient)
    with guard():
        assert odeint(CountingField(), torch.ones(2, 3), solver=solver).stats == SolverStats(6, 0, 6)
    detached = odeint(lambda t, x: -x, torch.ones(2, 3), solver=solver, parameters=())
    assert detached.stats == SolverStats(6, 0, 6)


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_the_default_solver_runs_in_both_gradient_modes(gradient):
    field, state = CountingField(), torch.rand(2, 3, 4)
    default = odeint(field, state)
    explicit = odeint(field, state, (0.0, 1.0), SolverConfig("midpoint", 4, gradient))
    assert default.state.shape == state.shape
    assert torch.equal(default.state, explicit.state)
