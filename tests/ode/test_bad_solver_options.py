"""Budgets of evaluations, and options of solvers that are refused."""

import math

import pytest
import torch
from closed_form_problems import CountedDecay
from solver_variants import VARIANTS, solver_config

from odebackbones.errors import InputError, SolverError
from odebackbones.ode import SolverConfig, build_method, odeint
from odebackbones.ode.integrate import integrate
from odebackbones.ode.solvers import min_nfe, with_changes

X0 = torch.tensor([[1.0, -2.0]])


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "lm"])
def test_a_budget_that_fixed_steps_exceed_is_refused_before_any_evaluation(variant):
    field, nfe = CountedDecay(), min_nfe(solver_config(variant, 6))
    with pytest.raises(
        InputError, match=rf"max_nfe={nfe - 1}: .* with 6 steps evaluates the field {nfe} times; take fewer"
    ):
        odeint(field, X0.double(), solver=solver_config(variant, 6, max_nfe=nfe - 1))
    assert field.times == []


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("lm", "implicit_euler")])
def test_a_budget_that_is_just_enough_is_enough(variant):
    field, nfe = CountedDecay(), min_nfe(solver_config(variant, 6))
    with torch.no_grad():
        stats = odeint(field, X0.double(), solver=solver_config(variant, 6, max_nfe=nfe)).stats
    assert stats.nfe == len(field.times) == nfe


def test_iterations_that_do_not_converge_name_the_step():
    # h times the rate is 2 in the second half: x -> x0 + h f(x) does not contract there
    solver = SolverConfig("implicit_euler", 4, "backprop", rtol=1e-6)
    with pytest.raises(
        SolverError, match=r"no convergence in 100 fixed-point iterations of step 3 of 4 \(t = 0\.75, \d+ ev"
    ):
        odeint(lambda t, x: (-8.0 if t > 0.6 else -0.4) * torch.sin(x), X0, solver=solver)


def test_iterations_that_use_up_the_budget_name_the_step():
    field, solver = CountedDecay(-1.0), SolverConfig("implicit_euler", 4, "backprop", rtol=1e-9, atol=1e-9, max_nfe=20)
    with pytest.raises(
        SolverError, match=r"of step 2 of 4 \(t = 0\.5, (\d+) evaluations before it\); .* a larger max_nfe than 20, or"
    ) as e:
        odeint(field, X0.double(), solver=solver)
    assert len(field.times) == 20
    assert f"{field.times.count(0.25)} evaluations before it" in str(e.value)


def test_the_iterations_of_a_solve_are_counted_anew_in_the_next():
    field = CountedDecay(-1.0)
    solver = SolverConfig("implicit_euler", 3, "backprop", rtol=1e-6, atol=1e-6, max_nfe=60)
    method = build_method(solver)
    for _ in range(3):
        field.times.clear()
        _, stats = integrate(field, method, X0.double(), solver)
        assert 20 < stats.nfe == len(field.times) < 60


BAD = [
    ({"method": "rk5"}, r"unknown solver 'rk5'; did you mean .*'rk4'"),
    ({"method": "zzz"}, r"unknown solver 'zzz'; known: .*'?midpoint"),
    ({"gradient": "chekpoint"}, r"unknown gradient mode 'chekpoint'; did you mean 'checkpoint'"),
    *[({"steps": bad}, rf"steps={bad!r}: expected a whole number of at least 1") for bad in (0, -1, 2.0, True)],
    *[({"max_nfe": bad}, rf"max_nfe={bad!r}: expected a whole number of at least 1") for bad in (0, 1.5, True)],
    *[({"method": "implicit_euler", "degree": bad}, rf"degree={bad!r}: expected a whole") for bad in (0, 2.0, False)],
    *[({"method": "dopri5", "rtol": bad}, rf"rtol={bad!r}: expected a number") for bad in (0.0, -1e-3, math.nan)],
    *[({"method": "dopri5", "atol": bad}, rf"atol={bad!r}: expected a number") for bad in (0.0, -1e-3, math.nan)],
    *[({"method": "alf", "damping": bad}, rf"damping={bad!r}: .* above 0, and 1 at") for bad in (0.0, 1.1, math.nan)],
    *[
        ({"grid": bad}, r"grid=\(.*\): expected the ends of the steps as fractions that ascend from above 0 to 1")
        for bad in ((), (0.5,), (0.0, 1.0), (0.5, 0.5, 1.0), (0.7, 0.3, 1.0), (-0.1, 1.0), (0.5, 1.1))
    ],
    ({"checkpoints": "all"}, r"unknown value of checkpoints 'all'"),
    ({"checkpoints": 0}, r"checkpoints=0: expected 'every', 'sqrt', or a whole number of at least 1"),
    ({"state_dtype": "float32"}, r"unknown state_dtype 'float32'; did you mean .*'float64'"),
    ({"method": "rk4", "gradient": "reversible"}, r"'rk4' .* works with leapfrog, alf, reversible_heun"),
    ({"method": "ab2", "gradient": "adjoint"}, r"works, on equal steps, with euler, .*'ab2' works with"),
    ({"method": "rk4", "state_dtype": "int32"}, r"state_dtype='int32' is for leapfrog, alf \(damping=1\) and rev"),
    ({"method": "alf", "damping": 0.5, "state_dtype": "float64"}, r"state_dtype='float64' is for leapfrog, alf"),
    ({"method": "alf", "gradient": "reversible", "state_dtype": "float"}, r"needs exact sums: state_dtype='auto'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_configuration_is_refused_with_what_was_expected(arguments, message):
    with pytest.raises(InputError, match=message):
        SolverConfig(**arguments)


@pytest.mark.parametrize(
    ("arguments", "able"),
    [
        ({"method": "dopri5", "grid": (0.3, 1.0)}, "finds its own steps.* but euler, midpoint, .* have"),
        ({"method": "dopri5", "steps": 10}, "finds its own steps.* but euler, midpoint, .* have"),
        ({"method": "euler", "rtol": 1e-5}, "but adaptive_heun, .*dopri5, .*implicit_euler have"),
        ({"method": "rk4", "atol": 1e-4}, "but adaptive_heun, .*dopri5, .*implicit_euler have"),
        ({"method": "implicit_euler", "degree": 2, "rtol": 1e-5}, ""),
        ({"method": "euler", "nodes": 4}, "but adaptive_heun, bosh3, dopri5, dopri8 have"),
        ({"method": "euler", "degree": 2}, "but implicit_euler have"),
        ({"method": "leapfrog", "damping": 0.5}, "but alf have"),
        ({"method": "leapfrog", "projected": True}, "but euler, midpoint"),
    ],
    ids=str,
)
def test_an_option_is_refused_by_a_method_that_would_ignore_it(arguments, able):
    with pytest.raises(InputError, match=rf"has no such option.*{able}"):
        SolverConfig(**arguments)


def test_steps_and_a_grid_agree_or_are_refused():
    assert SolverConfig("euler", grid=(0.3, 0.5, 1.0)).steps == 3
    with pytest.raises(InputError, match=r"has 2 steps, and steps=4: leave steps out"):
        SolverConfig("euler", 4, grid=(0.3, 1.0))


def test_a_change_of_the_method_leaves_out_what_the_new_one_has_not():
    fixed = with_changes(SolverConfig("dopri5", gradient="backprop", rtol=1e-6, nodes=8), method="rk4", steps=3)
    assert fixed == SolverConfig("rk4", 3, "backprop")
    assert with_changes(fixed, method="dopri5", rtol=1e-5) == SolverConfig("dopri5", gradient="backprop", rtol=1e-5)
    assert with_changes(SolverConfig("euler", grid=(0.3, 1.0)), steps=5) == SolverConfig("euler", 5)
    with pytest.raises(InputError, match="projected=True: solver 'leapfrog' has no such option"):
        with_changes(SolverConfig("euler", projected=True), method="leapfrog")


@pytest.mark.parametrize(
    ("t_span", "message"),
    [
        ((1.0, 1.0), "ascending or descending throughout"),
        ((0.0,), "expected two times or more"),
        ((), "expected two times or more"),
        ((0.0, 1.0, 0.5), "ascending or descending throughout"),
        ((0.0, 1.0, 1.0), "ascending or descending throughout"),
        ((0.0, math.nan), "ascending or descending throughout"),
    ],
)
def test_times_that_lead_nowhere_are_refused(t_span, message):
    with pytest.raises(InputError, match=message):
        odeint(CountedDecay(), X0.double(), t_span)


def test_a_closure_is_differentiated_by_backprop_where_its_parameters_are_not_named():
    rate, x = torch.tensor(-2.0, requires_grad=True), torch.ones(1)
    odeint(lambda t, x: rate * x, x, solver=SolverConfig("euler", 4, checkpoints="sqrt")).state.sum().backward()
    assert rate.grad.item() == pytest.approx(0.5**3)  # d/dr (1 + r / 4)^4 = (1 + r / 4)^3
    with torch.no_grad():
        odeint(lambda t, x: rate * x, x, solver=SolverConfig("leapfrog", gradient="reversible"))


@pytest.mark.parametrize("gradient", ["reversible", "adjoint"])
def test_a_closure_is_asked_for_its_parameters(gradient):
    solver = SolverConfig("euler" if gradient == "adjoint" else "leapfrog", gradient=gradient)
    with pytest.raises(InputError, match=rf"gradient='{gradient}' needs to know .*pass parameters=\(\.\.\.\)"):
        odeint(lambda t, x: -x, X0, solver=solver)


def test_lm_belongs_in_a_block():
    with pytest.raises(InputError, match=r"'lm' has coefficients to learn.*use an ODEBlock"):
        odeint(CountedDecay(), X0.double(), solver=SolverConfig("lm"))
