"""Solvers: each method is its published formula, written out here once more."""

import math
import weakref

import pytest
import torch
from torch import nn

from odebackbones.ode import SolverConfig, build_method, odeint
from odebackbones.ode.grids import uneven_grid, uniform_grid
from odebackbones.ode.methods.adams_bashforth import adams_bashforth_weights
from odebackbones.ode.methods.runge_kutta import last_uses
from odebackbones.ode.methods.tableaus import TABLEAUS

SPANS = {"forward": (0.3, 1.5), "backward": (1.5, 0.3)}
UNEVEN = (0.1, 0.3, 0.35, 0.6, 0.8, 0.93, 1.0)
GRIDS = {"even": {"steps": 7}, "uneven": {"grid": UNEVEN}}
X0 = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

spans = pytest.mark.parametrize("t_span", SPANS.values(), ids=SPANS)
grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def f(t, x):
    return torch.tanh((1.0 + t) * x @ WEIGHT) - 0.3 * math.sin(3 * t) * x**2


def steps_of(t_span, grid):
    """Start and length of every step, by the definition of ``steps`` and ``grid``."""
    t0, t1 = t_span
    ends = [t0 + s * (t1 - t0) for s in grid.get("grid", [i / 7 for i in range(1, 8)])]
    return [(a, b - a) for a, b in zip([t0, *ends[:-1]], ends, strict=True)]


def assert_solves(expected, method, t_span, grid, **kwargs):
    end = odeint(f, X0, t_span, SolverConfig(method, gradient="backprop", **grid, **kwargs)).state
    torch.testing.assert_close(end, expected, rtol=1e-12, atol=1e-12)


def heun_step(t, h, x):
    k1 = f(t, x)
    return x + h / 2 * (k1 + f(t + h, x + h * k1))


def ralston_step(t, h, x):
    k1 = f(t, x)
    return x + h * (k1 / 4 + 3 / 4 * f(t + 2 / 3 * h, x + 2 / 3 * h * k1))


def kutta3_step(t, h, x):
    k1 = f(t, x)
    k2 = f(t + h / 2, x + h / 2 * k1)
    k3 = f(t + h, x - h * k1 + 2 * h * k2)
    return x + h / 6 * (k1 + 4 * k2 + k3)


def kutta4_step(t, h, x):
    k1 = f(t, x)
    k2 = f(t + h / 2, x + h / 2 * k1)
    k3 = f(t + h / 2, x + h / 2 * k2)
    k4 = f(t + h, x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def three_eighths_step(t, h, x):
    k1 = f(t, x)
    k2 = f(t + h / 3, x + h * k1 / 3)
    k3 = f(t + 2 * h / 3, x + h * (k2 - k1 / 3))
    k4 = f(t + h, x + h * (k1 - k2 + k3))
    return x + h / 8 * (k1 + 3 * k2 + 3 * k3 + k4)


ONE_STEP = {
    "euler": lambda t, h, x: x + h * f(t, x),
    "midpoint": lambda t, h, x: x + h * f(t + h / 2, x + h / 2 * f(t, x)),
    "heun": heun_step,
    "ralston": ralston_step,
    "rk3": kutta3_step,
    "rk4": three_eighths_step,
    "rk4_classic": kutta4_step,
}


@grids
@spans
@pytest.mark.parametrize("method", ONE_STEP)
def test_one_step_methods(method, t_span, grid):
    x = X0
    for t, h in steps_of(t_span, grid):
        x = ONE_STEP[method](t, h, x)
    assert_solves(x, method, t_span, grid)


@spans
def test_ab2_begins_with_heun_and_weighs_the_slopes_by_three_halves_and_minus_one_half(t_span):
    (t0, h), *later = steps_of(t_span, GRIDS["even"])
    x, before = heun_step(t0, h, X0), f(t0, X0)
    for t, _ in later:
        slope = f(t, x)
        x, before = x + h * (3 / 2 * slope - 1 / 2 * before), slope
    assert_solves(x, "ab2", t_span, GRIDS["even"])


@spans
def test_ab2_on_an_uneven_grid_follows_the_ratio_of_the_steps(t_span):
    (t0, before_h), *later = steps_of(t_span, GRIDS["uneven"])
    x, before = heun_step(t0, before_h, X0), f(t0, X0)
    for t, h in later:
        slope, ratio = f(t, x), h / before_h
        x, before, before_h = x + h * ((1 + ratio / 2) * slope - ratio / 2 * before), slope, h
    assert_solves(x, "ab2", t_span, GRIDS["uneven"])


@spans
def test_ab3_begins_with_kuttas_method_and_weighs_by_twelfths(t_span):
    (t0, h), (t1, _), *later = steps_of(t_span, GRIDS["even"])
    x1 = kutta3_step(t0, h, X0)
    x, slopes = kutta3_step(t1, h, x1), [f(t1, x1), f(t0, X0)]
    for t, _ in later:
        slopes = [f(t, x), *slopes[:2]]
        x = x + h / 12 * (23 * slopes[0] - 16 * slopes[1] + 5 * slopes[2])
    assert_solves(x, "ab3", t_span, GRIDS["even"])


def test_the_weights_of_adams_and_bashforth_on_an_even_grid_are_the_known_ones():
    weights = adams_bashforth_weights(uniform_grid((0.0, 1.0), 6), 4)
    known = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], *[[55 / 24, -59 / 24, 37 / 24, -9 / 24]] * 3]
    for found, expected in zip(weights, known, strict=True):
        assert found == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_weights_of_adams_and_bashforth_integrate_polynomials_on_an_uneven_grid(order):
    grid = uneven_grid((2.0, -1.0), UNEVEN)
    for n, weights in enumerate(adams_bashforth_weights(grid, order)):
        (t, h), nodes = grid[n], [grid[n - j][0] for j in range(len(weights))]
        for p in range(len(weights)):
            quadrature = h * sum(w * s**p for w, s in zip(weights, nodes, strict=True))
            assert quadrature == pytest.approx(((t + h) ** (p + 1) - t ** (p + 1)) / (p + 1), abs=1e-11)


@grids
@spans
def test_lm_resnet(t_span, grid):
    solver = SolverConfig("lm", gradient="backprop", **grid)
    method = build_method(solver, t_span)
    nn.init.uniform_(method.coefficients, -0.5, 0.8, generator=torch.Generator().manual_seed(0))
    x = before = X0
    for k, (t, h) in zip(method.coefficients.tolist(), steps_of(t_span, grid), strict=True):
        x, before = (1 - k) * x + k * before + h * f(t, x), x
    torch.testing.assert_close(method.solve(f, X0).detach(), x, rtol=1e-12, atol=1e-12)


@grids
@spans
@pytest.mark.parametrize("degree", [2, 3])
def test_implicit_euler_of_degree_two_is_polynets_block_and_a_higher_one_composes_once_more(degree, t_span, grid):
    x = X0
    for t, h in steps_of(t_span, grid):
        powers = [x]
        for _ in range(degree):
            powers.append(h * f(t, powers[-1]))
        x = sum(powers)
    assert_solves(x, "implicit_euler", t_span, grid, degree=degree)


@grids
@pytest.mark.parametrize("kwargs", [{"rtol": 1e-14, "atol": 1e-14}, {"degree": 40}], ids=["iterated", "series"])
def test_implicit_euler_inverts_a_linear_step(kwargs, grid):
    matrix = torch.tensor([[-1.0, 2.0, 0.0], [-2.0, -1.0, 0.5], [0.0, 0.3, -3.0]], dtype=torch.float64)
    x = X0
    for _, h in steps_of((0.0, 0.5), grid):
        x = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - h * matrix, x.T).T
    solver = SolverConfig("implicit_euler", gradient="backprop", **grid, **kwargs)
    end = odeint(lambda t, x: x @ matrix.T, X0, (0.0, 0.5), solver).state
    torch.testing.assert_close(end, x, rtol=1e-12, atol=1e-12)


@spans
def test_iterated_implicit_euler_meets_its_equation_for_a_curved_field(t_span):
    (t, h), *_ = steps_of(t_span, GRIDS["even"])
    solver = SolverConfig("implicit_euler", 1, "backprop", rtol=1e-14, atol=1e-14)
    x = odeint(f, X0, (t, t + h), solver).state
    torch.testing.assert_close(x, X0 + h * f(t + h, x), rtol=1e-12, atol=1e-12)


@grids
@spans
def test_leapfrog_is_the_midpoint_rule_over_two_steps(t_span, grid):
    (t0, before_h), *later = steps_of(t_span, grid)
    before, x = X0, X0 + before_h * f(t0, X0)
    for t, h in later:
        before, x, before_h = x, before + (before_h + h) * f(t, x), h
    assert_solves(x, "leapfrog", t_span, grid)


@grids
@spans
@pytest.mark.parametrize("damping", [1.0, 0.8, 0.5])
def test_asynchronous_leapfrog_is_zhuangs_recursion(damping, t_span, grid):
    steps = steps_of(t_span, grid)
    x, v = X0, f(t_span[0], X0)
    for t, h in steps:  # the forward step of damped MALI
        middle = x + v * h / 2
        u = f(t + h / 2, middle)
        v = v + 2 * damping * (u - v)
        x = middle + v * h / 2
    assert_solves(x, "alf", t_span, grid, damping=damping)


@grids
@spans
def test_reversible_heun_is_kidgers_recursion(t_span, grid):
    y = y_hat = X0
    slope = f(t_span[0], X0)
    for t, h in steps_of(t_span, grid):  # the forward pass of the paper, without its noise
        y_hat = 2 * y - y_hat + slope * h
        before, slope = slope, f(t + h, y_hat)
        y = y + (before + slope) * h / 2
    assert_solves(y, "reversible_heun", t_span, grid)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("method", ["ab2", "ab3"])
def test_so_few_steps_are_runge_kutta_steps_where_the_slopes_are_missing(method, steps):
    starter = {"ab2": heun_step, "ab3": kutta3_step}[method]
    x, h = X0, 1.2 / steps
    for i in range(steps if method == "ab3" else 1):
        x = starter(0.3 + i * h, h, x)
    if (method, steps) == ("ab2", 2):
        x = x + h * (3 / 2 * f(0.3 + h, x) - 1 / 2 * f(0.3, X0))
    assert_solves(x, method, (0.3, 1.5), {"steps": steps})


def test_a_slope_is_kept_until_the_last_stage_that_it_is_part_of():
    assert last_uses(TABLEAUS["midpoint"]) == [1, 2]  # the first slope is not part of the step's end, stage 2
    assert last_uses(TABLEAUS["heun"]) == [2, 2]
    assert last_uses(TABLEAUS["rk4_classic"]) == [4, 4, 4, 4]


def test_spent_slopes_are_given_up():
    seen = []

    def field(t, x):
        slope = -x
        seen.append(weakref.ref(slope))
        if len(seen) == 2:
            assert seen[0]() is None, "the midpoint method's first slope is still there at its second evaluation"
        return slope

    odeint(field, torch.ones(3), (0.0, 1.0), SolverConfig("midpoint", 1, gradient="backprop"))
    assert len(seen) == 2
