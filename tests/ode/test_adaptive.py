"""Adaptive steps: torchdiffeq's solution to the tolerance, with exact gradients of the steps that were accepted."""

import math
from itertools import pairwise

import pytest
import torch
import torchdiffeq
from adaptive_solvers import TOLERANCES, config, evaluations, methods
from closed_form_problems import PROBLEMS, CountedDecay
from torch import nn
from torchdiffeq._impl.odeint import SOLVERS
from trained_fields import (
    assert_buffers_equal,
    assert_parameter_gradients_close,
    make,
    passes,
)

from odebackbones.block import ODEBlock
from odebackbones.errors import InputError, SolverError
from odebackbones.ode import METHODS, SolverConfig, odeint
from odebackbones.ode.methods.tableaus import ADAPTIVE_TABLEAUS


def trace(block):
    return torch.jit.trace(block, torch.ones(2, 1))


def torchdiffeq_end(field, state, t_span, method, rtol, *, ends=True):
    """The end state by torchdiffeq, which steps beyond and interpolates if it is not told to end there."""
    times = torch.tensor(t_span, dtype=torch.float64)
    options = {"step_t": times[1:]} if ends else {}
    return torchdiffeq.odeint(field, state, times, method=method, rtol=rtol, atol=rtol, options=options)[-1]


def with_float_time(field):
    """The field for torchdiffeq, whose times are tensors."""
    return lambda t, x: field(float(t), x)


def test_the_adaptive_methods_are_known_to_torchdiffeq_and_to_these_tests():
    adaptive = {name for name, method in METHODS.items() if method.build is None}
    assert adaptive == set(TOLERANCES) == set(ADAPTIVE_TABLEAUS)
    assert adaptive <= set(SOLVERS)
    assert all(METHODS[name].torchdiffeq == name for name in adaptive)


@pytest.mark.parametrize("method", ["tsit5", "fehlberg2"])
def test_other_adaptive_methods_are_no_methods(method):
    with pytest.raises(InputError, match=f"unknown solver '{method}'"):
        SolverConfig(method)


@pytest.mark.parametrize("name", PROBLEMS)
@methods
def test_the_end_is_torchdiffeqs(method, name):
    problem, field = PROBLEMS[name], with_float_time(PROBLEMS[name].vector_field)
    expected = torchdiffeq_end(field, problem.state, problem.t_span, method, TOLERANCES[method])
    end = odeint(problem.vector_field, problem.state, problem.t_span, config(method), parameters=()).state
    torch.testing.assert_close(end, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["damped rotation", "rate cos t, backward in time"])
@methods
def test_the_end_is_the_same_where_gradients_are_wanted(method, name):
    problem, state = PROBLEMS[name], PROBLEMS[name].state.clone().requires_grad_()
    end = odeint(problem.vector_field, state, problem.t_span, config(method), parameters=()).state
    assert end.requires_grad
    without = odeint(problem.vector_field, problem.state, problem.t_span, config(method), parameters=()).state
    torch.testing.assert_close(end.detach(), without, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
@methods
def test_the_closed_form_is_met_to_the_tolerance(method, name):
    problem, rtol = PROBLEMS[name], TOLERANCES[method]
    end = odeint(problem.vector_field, problem.state, problem.t_span, config(method), parameters=()).state
    torch.testing.assert_close(end, problem.end(), rtol=20 * rtol, atol=20 * rtol)


@methods
def test_a_tighter_tolerance_takes_more_steps_to_a_smaller_error(method):
    problem, errors, steps = PROBLEMS["damped rotation"], [], []
    for rtol in (100 * TOLERANCES[method], TOLERANCES[method]):
        solution = odeint(problem.vector_field, problem.state, problem.t_span, config(method, rtol=rtol), parameters=())
        errors.append((solution.state - problem.end()).norm().item())
        steps.append(solution.stats.steps)
    assert errors[1] < errors[0] / 10
    assert steps[1] > steps[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutions", "GroupNorm", "BatchNorm2d", "TimeBatchNorm2d"])
@methods
def test_checkpoint_equals_backprop_on_a_trained_field(method, name):
    field = make(name)
    found, reference = (passes(field, config(method, g, rtol=1e-3)) for g in ("checkpoint", "backprop"))
    assert torch.equal(found.end, reference.end)
    assert torch.equal(found.slope, reference.slope)
    assert_parameter_gradients_close(found.field, reference.field, tolerance=1e-6)
    assert_buffers_equal(found.field, reference.field)


@methods
def test_gradients_are_those_of_the_closed_form(method):
    problem, rtol = PROBLEMS["logistic growth"], TOLERANCES[method]

    def end(x):
        return odeint(problem.vector_field, x, problem.t_span, config(method), parameters=()).state

    x = problem.state.clone().requires_grad_()
    found, expected = (torch.autograd.grad(y.sum(), x)[0] for y in (end(x), problem.solution(problem.t_span[1], x)))
    torch.testing.assert_close(found, expected, rtol=200 * rtol, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rtol", "eps", "tolerance"),
    [
        ("adaptive_heun", 1e-5, 1e-2, 1e-3),
        ("bosh3", 1e-7, 1e-3, 1e-4),
        ("dopri5", 1e-10, 1e-4, 1e-6),
        ("dopri8", 1e-10, 1e-4, 1e-6),
    ],
)
def test_gradients_equal_finite_differences(method, rtol, eps, tolerance):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((1, 2), (2, 2)))

    def end(x, weight):
        solver = config(method, rtol=rtol)
        return odeint(lambda t, x: torch.tanh((1 + t) * x @ weight), x, (0.2, 0.5), solver, parameters=(weight,)).state

    # Other states take other steps; what that does to the end, less than the tolerance, is no part of the gradient.
    inputs = (x.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(end, inputs, eps=eps, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
@methods
def test_the_statistics_are_what_a_counting_field_counts(method, gradient):
    field, x = CountedDecay(), torch.ones(2, dtype=torch.float64, requires_grad=True)
    solution = odeint(field, x, (0.0, 3.0), config(method, gradient))
    forward = len(field.times)
    solution.state.sum().backward()
    stats = solution.stats
    assert (stats.nfe, stats.nfe_backward) == (forward, len(field.times) - forward)
    assert stats.nfe_backward == (evaluations(method, stats.steps) if gradient == "checkpoint" else 0)


@methods
def test_without_gradients_the_steps_are_taken_once(method):
    field = CountedDecay()
    with torch.no_grad():
        stats = odeint(field, torch.ones(2, dtype=torch.float64), (0.0, 3.0), config(method)).stats
    repeated = odeint(CountedDecay(), torch.ones(2, dtype=torch.float64), (0.0, 3.0), config(method)).stats
    assert (stats.nfe, stats.nfe_backward) == (len(field.times), 0)
    assert repeated.nfe == stats.nfe + evaluations(method, repeated.steps)


class SuddenField(nn.Module):
    """At rest, then suddenly turning fast; it counts the steps that torchdiffeq tells it of."""

    def __init__(self):
        super().__init__()
        self.accepted = []
        self.rejected = 0

    def forward(self, t, x):
        return -x if t < 0.5 else 40.0 * torch.stack([-x[..., 1], x[..., 0]], dim=-1)

    def callback_accept_step(self, t0, y0, dt):
        self.accepted.append(float(t0))

    def callback_reject_step(self, t0, y0, dt):
        self.rejected += 1


@pytest.mark.slow
@pytest.mark.parametrize("t_span", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "backward"])
@methods
def test_rejected_steps_are_counted_as_by_torchdiffeq(method, t_span):
    field, x = SuddenField(), torch.tensor([1.0, 0.5], dtype=torch.float64)
    torchdiffeq_end(field, x, t_span, method, 1e-3)
    stats = odeint(SuddenField(), x, t_span, config(method, rtol=1e-3)).stats
    assert (stats.steps, stats.rejected) == (len(field.accepted), field.rejected)
    assert stats.rejected > 0


def test_an_accepted_step_starts_where_the_one_before_ended():
    field, x = CountedDecay(), torch.ones(2, dtype=torch.float64, requires_grad=True)
    solution = odeint(field, x, (2.0, -1.0), config("dopri5", "backprop"))
    times = field.times[-6 * solution.stats.steps :]  # of the steps when they were taken again
    assert times[0] == 2.0
    for step, following in pairwise(times[i : i + 6] for i in range(0, len(times), 6)):
        assert step[-1] == pytest.approx(following[0], abs=1e-14)
    assert times[-1] == pytest.approx(-1.0, abs=1e-14)


@pytest.mark.parametrize("words", ["", "x must be small"])
def test_an_assertion_of_the_field_itself_comes_out_as_it_is(words):
    def field(t, x):
        raise AssertionError(words)

    with pytest.raises(AssertionError, match=f"^{words}$"):
        odeint(field, torch.ones(2), solver=config("dopri5"), parameters=())


def test_max_nfe_stops_a_solve_and_says_where():
    block = ODEBlock(CountedDecay(-30.0), config("dopri5", max_nfe=50), name="layer3")
    words = (
        r"^layer3: max_nfe=50 evaluations are used up at t = 0\.\d+, after \d+ accepted and \d+ rejected steps; raise"
    )
    with pytest.raises(SolverError, match=words):
        block(torch.ones(2, 3, dtype=torch.float64))
    assert len(block.field.times) == 50


def test_a_solution_that_ends_in_a_pole_is_an_error_and_no_endless_solve():
    x = torch.tensor([1.0], dtype=torch.float64)  # x' = x^2 from 1 on is 1 / (1 - t)
    before = odeint(lambda t, x: x**2, x, (0.0, 0.9), config("dopri5"), parameters=()).state
    torch.testing.assert_close(before, torch.tensor([10.0], dtype=torch.float64), rtol=1e-5, atol=0.0)
    with pytest.raises(
        SolverError, match=r"dopri5 stopped after \d+ accepted steps \(.*\); loosen rtol and atol, or look"
    ):
        odeint(lambda t, x: x**2, x, (0.0, 2.0), config("dopri5", rtol=1e-3), parameters=())


@pytest.mark.filterwarnings("ignore:`torch.jit")  # deprecated; ONNX of whole detectors still needs tracing
@pytest.mark.parametrize("record", [torch.fx.symbolic_trace, trace])
@pytest.mark.parametrize("method", ["dopri5", "implicit_euler"])
def test_what_a_graph_can_not_follow_says_what_to_do(method, record):
    block = ODEBlock(CountedDecay(), SolverConfig(method))
    with pytest.raises(InputError, match=rf"'{method}' decides on .* odebackbones\.change_solver\(model, 'rk4'"):
        record(block)


def test_a_slope_of_lower_precision_is_raised_to_the_states():
    solver, x = config("dopri5", rtol=1e-3), torch.tensor([1.0, 2.0])
    end = odeint(lambda t, x: (-x).bfloat16(), x, (0.0, 1.0), solver, parameters=()).state
    assert end.dtype == torch.float32
    torch.testing.assert_close(end, x * math.exp(-1.0), rtol=1e-2, atol=0.0)
