"""Gradient modes: ``checkpoint`` equals plain backpropagation on trained fields, buffers and random draws included."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torchdiffeq
from solver_variants import FIXED_POINT, VARIANTS, solver_config
from torch import nn
from trained_fields import (
    RANDOM,
    STEPS,
    assert_buffers_equal,
    assert_parameter_gradients_close,
    assert_parameter_gradients_equal,
    images,
    make,
    passes,
)

from odebackbones.ode import SolverConfig, odeint

CASES = [
    (name, variant)
    for name in ("convolutions", "BatchNorm2d", "dropout", "stochastic depth", "TimeBatchNorm2d")
    for variant in VARIANTS | FIXED_POINT
    if not (name in RANDOM and variant == "implicit_euler")  # iterations of a random field don't converge
]


def config(gradient, method="midpoint", steps=STEPS):
    return SolverConfig(method, steps, gradient)


@cache
def by_backprop(name, variant):
    return passes(make(name, variant), solver_config(variant, STEPS, "backprop"))


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", ["every", "sqrt", 4, 1])
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_checkpoint_equals_backprop_on_a_trained_field(name, variant, checkpoints):
    reference = by_backprop(name, variant)
    found = passes(make(name, variant), solver_config(variant, STEPS, checkpoints=checkpoints))
    assert torch.equal(found.end, reference.end)
    assert torch.equal(found.slope, reference.slope)
    if variant == "euler":
        assert_parameter_gradients_equal(found.problem, reference.problem)
    else:
        assert_parameter_gradients_close(found.problem, reference.problem, tolerance=5e-7)
    assert_buffers_equal(found.problem, reference.problem)
    assert torch.equal(found.random_state, reference.random_state)


@pytest.mark.parametrize("name", ["BatchNorm2d", "TimeBatchNorm2d"])
def test_the_buffers_that_are_compared_do_move(name):
    field = make(name)
    before = dict(make(name).named_buffers())
    after = passes(field, config("checkpoint")).field
    moved = [key for key, buffer in after.named_buffers() if not torch.equal(before[key], buffer)]
    assert {key.rpartition(".")[2] for key in moved} >= {"running_mean", "running_var"}


@pytest.mark.parametrize("name", ["BatchNorm2d", "TimeBatchNorm2d"])
def test_normalization_layers_track_again_after_a_backward_pass(name):
    field = passes(make(name), config("checkpoint")).field
    tracking = [m.track_running_stats for m in field.modules() if hasattr(m, "track_running_stats")]
    assert tracking and all(tracking)


@pytest.mark.parametrize("name", ["BatchNorm2d", "TimeBatchNorm2d"])
def test_checkpoint_equals_backprop_in_evaluation_mode(name):
    field = make(name).eval()
    found, reference = (passes(field, config(gradient)) for gradient in ("checkpoint", "backprop"))
    assert torch.equal(found.end, reference.end)
    assert torch.equal(found.slope, reference.slope)
    assert_parameter_gradients_close(found.field, reference.field, tolerance=5e-7)
    assert_buffers_equal(found.field, field)


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_drops_other_features(name, gradient):
    field = make(name)
    slopes = [passes(field, config(gradient), seed=seed).slope for seed in (7, 7, 8)]
    assert torch.equal(slopes[0], slopes[1])
    assert not torch.equal(slopes[0], slopes[2])


def test_a_backward_pass_leaves_the_generator_where_later_draws_have_brought_it():
    x = images().requires_grad_()
    end = odeint(make("dropout"), x, solver=config("checkpoint")).state
    torch.rand(5)
    between = torch.get_rng_state()
    end.sum().backward()
    assert torch.equal(torch.get_rng_state(), between)


@pytest.mark.parametrize("checkpoints", ["every", 3])
@pytest.mark.parametrize("name", ["convolutions", "BatchNorm2d", "TimeBatchNorm2d", "dropout"])
def test_checkpoint_equals_backprop_under_bfloat16_autocast(name, checkpoints):
    field = make(name)
    plain = passes(field, config("backprop"))
    # Without the cache, as a cached bfloat16 weight would sum its steps' gradients in bfloat16.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        found = passes(field, SolverConfig("midpoint", STEPS, checkpoints=checkpoints))
        reference = passes(field, config("backprop"))
    assert torch.equal(found.end, reference.end)
    assert not torch.equal(found.end, plain.end)  # autocast did cast
    assert torch.equal(found.slope, reference.slope)
    assert_parameter_gradients_close(found.field, reference.field, tolerance=5e-7)


@pytest.mark.parametrize("checkpoints", ["every", 2])
def test_a_backward_pass_outside_autocast_recomputes_inside_it(checkpoints):
    field, slopes = make("convolutions"), []
    for solver in (config("backprop"), SolverConfig("midpoint", STEPS, checkpoints=checkpoints)):
        x = images().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            end = odeint(field, x, solver=solver).state
        end.square().sum().backward()
        slopes.append(x.grad)
    assert torch.equal(*slopes)


def test_autocasts_cache_takes_no_gradient_away():
    field = make("convolutions")
    with torch.autocast("cpu", torch.bfloat16):
        found, reference = (passes(field, config(gradient)) for gradient in ("checkpoint", "backprop"))
    assert torch.equal(found.slope, reference.slope)
    assert_parameter_gradients_close(found.field, reference.field, tolerance=0.02)  # the reference sums in bfloat16


@pytest.mark.parametrize(
    ("method", "other"), [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2"), ("rk4", "rk4")]
)
def test_gradients_equal_torchdiffeqs_backprop(method, other):
    field = make("convolutions").double()
    x = images(dtype=torch.float64).requires_grad_()
    ours = odeint(field, x, solver=SolverConfig(method, 4)).state
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    theirs = torchdiffeq.odeint(field, x, times, method=other, options={"step_size": 0.25})[-1]
    wanted = [x, *field.parameters()]
    for mine, expected in zip(
        torch.autograd.grad(ours.square().sum(), wanted),
        torch.autograd.grad(theirs.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("checkpoints", ["every", 2])
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("lm", "implicit_euler")])
def test_gradients_equal_finite_differences(variant, checkpoints):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((2, 3), (3, 3)))
    solver = solver_config(variant, 4, checkpoints=checkpoints)

    def end(x, weight):
        return odeint(lambda t, x: torch.tanh((1 + t) * x @ weight), x, (0.2, 1.0), solver, parameters=(weight,)).state

    assert torch.autograd.gradcheck(end, (x.requires_grad_(), weight.requires_grad_()))


@pytest.mark.slow
def test_gradients_of_iterations_equal_finite_differences():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((2, 3), (3, 3)))
    solver = SolverConfig("implicit_euler", 8, rtol=1e-13, atol=1e-13)

    def end(x, weight):
        return odeint(lambda t, x: torch.tanh(x @ weight), x, (0.2, 1.0), solver, parameters=(weight,)).state

    assert torch.autograd.gradcheck(end, (x.requires_grad_(), weight.requires_grad_()))


def test_the_coefficients_of_lm_learn():
    reference = by_backprop("convolutions", "lm").problem
    found = passes(make("convolutions"), solver_config("lm", STEPS)).problem
    slopes = found.method.coefficients.grad
    torch.testing.assert_close(slopes, reference.method.coefficients.grad, rtol=1e-5, atol=1e-6)
    assert slopes[0] == 0.0  # before the first step the state has not moved
    assert slopes[1:].abs().min() > 0.0


MODES = [config("checkpoint"), SolverConfig("midpoint", STEPS, checkpoints=2), config("reversible", "leapfrog")]
modes = pytest.mark.parametrize("solver", MODES, ids=["checkpoint", "two checkpoints", "reversible"])


def plain(solver):
    """The same solve by backprop, in the same arithmetic."""
    state_dtype = "int32" if solver.gradient == "reversible" else "auto"
    return replace(solver, gradient="backprop", state_dtype=state_dtype)


@modes
def test_parameters_that_want_no_gradient_get_none(solver):
    field = make("convolutions")
    field.conv1.requires_grad_(False)
    found, reference = passes(field, solver), passes(field, plain(solver))
    assert found.field.conv1.weight.grad is None and found.field.conv1.bias.grad is None
    torch.testing.assert_close(found.slope, reference.slope)
    assert_parameter_gradients_close(found.field.conv2, reference.field.conv2, tolerance=1e-6)


@modes
def test_a_parameter_that_the_field_never_uses_gets_no_gradient(solver):
    field = make("convolutions")
    field.idle = nn.Parameter(torch.ones(2))
    found = passes(field, solver).field
    assert found.idle.grad is None
    assert found.conv1.weight.grad is not None


@modes
def test_a_frozen_field_passes_the_gradient_on_and_keeps_none(solver):
    field = make("convolutions").requires_grad_(False)
    found = passes(field, solver)
    torch.testing.assert_close(found.slope, passes(field, plain(solver)).slope)
    assert all(p.grad is None for p in found.field.parameters())


@modes
def test_a_state_that_wants_no_gradient_trains_the_field_all_the_same(solver):
    fields = []
    for config in (solver, plain(solver)):
        fields.append(make("convolutions"))
        fields[-1].zero_grad()
        odeint(fields[-1], images(), solver=config).state.square().sum().backward()
    assert_parameter_gradients_close(*fields, tolerance=1e-6)


def test_a_closure_without_parameters_differentiates_its_state():
    x = torch.tensor([[0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    odeint(lambda t, x: -2.0 * x, x, solver=SolverConfig("euler", 4), parameters=()).state.sum().backward()
    assert x.grad.tolist() == [[0.5**4, 0.5**4]]  # (1 - 2 / 4)^4


def test_a_closure_differentiates_the_parameters_that_it_names():
    rate = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(1, 1, dtype=torch.float64)
    solver = SolverConfig("euler", 4)
    odeint(lambda t, x: rate * x, ones, solver=solver, parameters=(rate,)).state.sum().backward()
    assert rate.grad.item() == pytest.approx(0.5**3)  # d/dr (1 + r / 4)^4 = (1 + r / 4)^3


@modes
def test_a_hook_on_a_parameter_fires_once_a_backward_pass(solver):
    field, fired = make("convolutions"), []
    for name, parameter in field.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: fired.append(name))
    odeint(field, images(), solver=solver).state.sum().backward()
    assert sorted(fired) == sorted(name for name, _ in field.named_parameters())


def test_parameters_may_be_a_generator():
    layer = nn.Linear(3, 3)
    solution = odeint(lambda t, x: layer(x), torch.randn(2, 3), parameters=layer.parameters())
    solution.state.sum().backward()
    assert layer.weight.grad is not None


class Normalize(nn.Module):
    """A norm as a vector field."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, t, x):
        return self.norm(x)


def instance_norm_in_evaluation(gradient):
    norm = nn.InstanceNorm2d(3, track_running_stats=True)
    norm(3 * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) + 1)
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    solver = SolverConfig("euler", 3, gradient)
    odeint(Normalize(norm.eval()), x, solver=solver).state.square().sum().backward()
    return x.grad, norm.running_mean


def test_an_instance_norm_in_evaluation_is_recomputed_as_it_was():
    for a, b in zip(*map(instance_norm_in_evaluation, ("checkpoint", "backprop")), strict=True):
        assert torch.equal(a, b)
