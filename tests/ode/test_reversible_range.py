"""How large the numbers of a reversible solve may get."""

import math
from dataclasses import replace

import pytest
import torch
from reversible_solvers import config, methods, state_dtypes

from odebackbones.errors import SolverError
from odebackbones.ode import odeint


def grown(times, x, method, state_dtype, steps=256):
    """The end of an exponential growth so many times over."""
    rate = math.log(times)
    return odeint(lambda t, x: rate * x, x, solver=config(method, steps, state_dtype), parameters=()).state


@methods
def test_a_state_that_outgrows_int32_is_told_to_take_float64_which_holds_it(method):
    x = torch.tensor([1.0, -0.3, 0.01], dtype=torch.float64, requires_grad=True)
    with pytest.raises(SolverError, match=r"outgrew its fixed-point format .*take state_dtype='float64'"):
        grown(260.0, x, method, "int32")
    torch.testing.assert_close(grown(260.0, x, method, "float64"), 260.0 * x, rtol=2e-3, atol=0.0)


@methods
def test_a_state_that_outgrows_float64_is_told_to_take_another_gradient(method):
    x = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(SolverError, match=r"outgrew its fixed-point format .*gradient='checkpoint'"):
        grown(2000.0, x, method, "float64")


@pytest.mark.parametrize(("state_dtype", "times"), [("int32", 120.0), ("float64", 480.0)])
@methods
def test_a_state_may_grow_as_far_as_its_format_says(method, state_dtype, times):
    x = torch.tensor([0.999, -0.3], dtype=torch.float64, requires_grad=True)  # just below a power of two
    torch.testing.assert_close(grown(times, x, method, state_dtype), times * x, rtol=2e-3, atol=0.0)


@pytest.mark.slow
@methods
def test_a_state_that_swings_for_long_and_never_grows_is_not_refused(method):
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    end = odeint(lambda t, x: x @ turn, x, (0.0, 400.0), config(method, 4000), parameters=()).state
    assert end.norm().item() == pytest.approx(1.0, abs=0.01)


def bad_from(t_bad, value):
    """A field that gives a value that is not finite, from a time on."""
    return lambda t, x: x * (value if t >= t_bad else -1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("leapfrog", "3 of 4, from t = 0.5 to 0.75"),
        ("alf", "3 of 4, from t = 0.5 to 0.75"),
        ("reversible_heun", "3 of 4, from t = 0.5 to 0.75"),
    ],
)
@state_dtypes
def test_a_state_that_is_not_finite_is_an_error_that_names_the_step(state_dtype, method, step, value):
    x = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(SolverError, match=f"the state is not finite after step {step}"):
        odeint(bad_from(0.5, value), x, solver=config(method, 4, state_dtype), parameters=())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@state_dtypes
@methods
def test_an_initial_state_that_is_not_finite_is_an_error_that_says_so(method, state_dtype, value):
    x = torch.tensor([1.0, value], requires_grad=True)
    with pytest.raises(SolverError, match="not finite before the solve"):
        odeint(lambda t, x: -0.1 * x, x, solver=config(method, 4, state_dtype), parameters=())


@methods
def test_who_wants_no_check_gets_none(method):
    x, solver = torch.tensor([1.0], dtype=torch.float64, requires_grad=True), config(method, 64)
    rate = math.log(260.0)
    with pytest.raises(SolverError):
        odeint(lambda t, x: rate * x, x, solver=solver, parameters=())
    end = odeint(lambda t, x: rate * x, x, solver=replace(solver, check_finite=False), parameters=()).state
    assert end.isnan()  # and no number that more than 2^31 quanta in 32 bits would make
    slope_of_nan = odeint(lambda t, x: math.nan * x, x, solver=replace(solver, check_finite=False), parameters=()).state
    assert slope_of_nan.isnan()
