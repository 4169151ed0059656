"""Gradient modes: ``checkpoint`` equals plain backpropagation, on trained fields, in values, buffers and random draws.

The fields are trained because random weights hide errors of a gradient that trained ones show.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
import torchdiffeq
from torch import nn

from odebackbones.fields import BasicField, norm_layer
from odebackbones.ode import SolverConfig, odeint
from odebackbones.ode.solvers import evaluation_times
from odebackbones.ode.tableaus import TABLEAUS

CHANNELS, STEPS = 4, 3
TIMES = {method: evaluation_times(SolverConfig(method, STEPS)) for method in TABLEAUS}


class ConvField(nn.Module):
    """Convolutions around a normalisation and a non-linearity of choice, with a time-dependent gain."""

    def __init__(self, norm=None, dropout=0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, 6, 3, padding=1)
        self.norm = norm or nn.Identity()
        self.conv2 = nn.Conv2d(6, CHANNELS, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, t, x):
        return math.cos(t) * self.conv2(self.dropout(torch.tanh(self.norm(self.conv1(x)))))


FIELDS = {
    "convolutions": lambda method: ConvField(),
    "BatchNorm2d": lambda method: ConvField(nn.BatchNorm2d(6)),
    "dropout": lambda method: ConvField(dropout=0.3),
    "TimeBatchNorm2d": lambda method: BasicField(
        CHANNELS, width=6, norm=norm_layer("batch", nodes=TIMES[method], bases=2), bases=2
    ),
}


def images(seed=1, dtype=torch.float32):
    return torch.randn(3, CHANNELS, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trained(field, method="midpoint"):
    """``field`` after a few steps towards a flow that blurs and shifts the image."""
    images_in = images(0)
    target = F.avg_pool2d(images_in.roll(1, dims=3), 3, 1, 1)
    optimizer = torch.optim.Adam(field.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        end = odeint(field, images_in, solver=SolverConfig(method, STEPS, "backprop")).state
        losses.append(F.mse_loss(end, target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    return field.requires_grad_(True)


def make(name, method="midpoint"):
    torch.manual_seed(0)
    return trained(FIELDS[name](method), method)


def gradients(field, gradient, *, method="midpoint", steps=STEPS, seed=7):
    """A copy of ``field`` after a backward pass, the end state and the input's gradient."""
    field = copy.deepcopy(field)
    field.zero_grad()
    x = images().requires_grad_()
    torch.manual_seed(seed)
    end = odeint(field, x, solver=SolverConfig(method, steps, gradient)).state
    end.float().square().sum().backward()
    return field, end.detach(), x.grad


def assert_parameter_gradients_close(field, reference, *, tolerance):
    for (name, p), q in zip(field.named_parameters(), reference.parameters(), strict=True):
        assert p.grad.abs().max() > 0, name
        error = (p.grad - q.grad).norm() / q.grad.norm()
        assert error <= tolerance, f"{name}: {error:.2e}"


def assert_parameter_gradients_equal(field, reference):
    for (name, p), q in zip(field.named_parameters(), reference.parameters(), strict=True):
        assert p.grad.abs().max() > 0, name
        assert torch.equal(p.grad, q.grad), name


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("method", TABLEAUS)
def test_checkpoint_equals_backprop_on_a_trained_field(method, name):
    field = make(name, method)
    checkpointed, end, slope = gradients(field, "checkpoint", method=method)
    reference, expected_end, expected_slope = gradients(field, "backprop", method=method)
    assert torch.equal(end, expected_end)
    assert torch.equal(slope, expected_slope)
    if method == "euler":
        assert_parameter_gradients_equal(checkpointed, reference)
    else:
        assert_parameter_gradients_close(checkpointed, reference, tolerance=5e-7)


@pytest.mark.parametrize("name", ["BatchNorm2d", "TimeBatchNorm2d"])
def test_a_recomputation_counts_no_batch_twice(name):
    field = make(name)
    checkpointed, _, _ = gradients(field, "checkpoint")
    reference, _, _ = gradients(field, "backprop")
    before = dict(field.named_buffers())
    for key, buffer in reference.named_buffers():
        assert torch.equal(checkpointed.get_buffer(key), buffer), key
        assert not torch.equal(before[key], buffer), key


@pytest.mark.parametrize("name", ["BatchNorm2d", "TimeBatchNorm2d"])
def test_normalisation_layers_track_again_after_a_backward_pass(name):
    field, _, _ = gradients(make(name), "checkpoint")
    tracking = [m.track_running_stats for m in field.modules() if hasattr(m, "track_running_stats")]
    assert tracking and all(tracking)


@pytest.mark.parametrize("name", ["BatchNorm2d", "TimeBatchNorm2d"])
def test_checkpoint_equals_backprop_in_evaluation_mode(name):
    field = make(name).eval()
    checkpointed, end, slope = gradients(field, "checkpoint")
    reference, expected_end, expected_slope = gradients(field, "backprop")
    assert torch.equal(end, expected_end)
    assert torch.equal(slope, expected_slope)
    assert_parameter_gradients_close(checkpointed, reference, tolerance=5e-7)
    assert all(torch.equal(b, field.get_buffer(key)) for key, b in checkpointed.named_buffers())


def test_the_random_generator_ends_where_plain_backprop_leaves_it():
    field, states = make("dropout"), {}
    for gradient in ("checkpoint", "backprop"):
        gradients(field, gradient)
        states[gradient] = torch.get_rng_state()
    assert torch.equal(states["checkpoint"], states["backprop"])


def test_another_seed_drops_other_features():
    field = make("dropout")
    assert not torch.equal(gradients(field, "checkpoint")[2], gradients(field, "checkpoint", seed=8)[2])


@pytest.mark.parametrize("name", ["convolutions", "BatchNorm2d", "TimeBatchNorm2d"])
def test_checkpoint_equals_backprop_under_bfloat16_autocast(name):
    field = make(name)
    plain_end = gradients(field, "backprop")[1]
    # Without the cache, as a cached bfloat16 weight would sum its steps' gradients in bfloat16.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        checkpointed, end, slope = gradients(field, "checkpoint")
        reference, expected_end, expected_slope = gradients(field, "backprop")
    assert torch.equal(end, expected_end)
    assert not torch.equal(end, plain_end)  # autocast did cast
    assert torch.equal(slope, expected_slope)
    assert_parameter_gradients_close(checkpointed, reference, tolerance=5e-7)


def test_a_backward_pass_outside_autocast_recomputes_inside_it():
    field = make("convolutions")
    slopes = {}
    for gradient in ("checkpoint", "backprop"):
        x = images().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            end = odeint(field, x, solver=SolverConfig("midpoint", STEPS, gradient)).state
        end.square().sum().backward()
        slopes[gradient] = x.grad
    assert torch.equal(slopes["checkpoint"], slopes["backprop"])


def test_autocasts_cache_takes_no_gradient_away():
    field = make("convolutions")
    with torch.autocast("cpu", torch.bfloat16):
        checkpointed, _, slope = gradients(field, "checkpoint")
        reference, _, expected_slope = gradients(field, "backprop")
    assert torch.equal(slope, expected_slope)
    assert_parameter_gradients_close(checkpointed, reference, tolerance=0.02)  # the reference sums in bfloat16


@pytest.mark.parametrize(("method", "other"), [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2")])
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


@pytest.mark.parametrize("method", TABLEAUS)
def test_gradients_equal_finite_differences(method):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((2, 3), (3, 3)))

    def end(x, weight):
        solver = SolverConfig(method, 3)
        return odeint(lambda t, x: torch.tanh((1 + t) * x @ weight), x, (0.2, 1.0), solver, parameters=(weight,)).state

    assert torch.autograd.gradcheck(end, (x.requires_grad_(), weight.requires_grad_()))


def saved_elements(field, gradient, steps):
    """Elements of all tensors that a forward pass keeps for its backward pass."""
    elements = 0

    def count(tensor):
        nonlocal elements
        elements += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        odeint(field, images(), solver=SolverConfig("midpoint", steps, gradient))
    return elements


def test_checkpoint_keeps_one_state_a_step_and_nothing_else():
    field, state = make("BatchNorm2d"), images()
    parameters = sum(p.numel() for p in field.parameters())
    for steps in (4, 16):
        assert saved_elements(field, "checkpoint", steps) == steps * state.numel() + parameters
    growth = saved_elements(field, "backprop", 16) - saved_elements(field, "backprop", 4)
    assert growth > 5 * 12 * state.numel()


def largest_graph(field, steps):
    """The most elements that recomputed graphs hold at any time of a backward pass."""
    held = [0]  # after each saving and each release

    def save(tensor):
        held.append(held[-1] + tensor.numel())
        return tensor

    def release(tensor):
        held.append(held[-1] - tensor.numel())
        return tensor

    end = odeint(field, images(), solver=SolverConfig("midpoint", steps)).state
    with torch.autograd.graph.saved_tensors_hooks(save, release):
        end.sum().backward()
    return max(held)


def test_a_backward_pass_holds_the_graph_of_one_step_at_a_time():
    field = make("convolutions")
    assert largest_graph(field, 8) == largest_graph(field, 2) > 0


def test_parameters_that_want_no_gradient_get_none():
    field = make("convolutions")
    field.conv1.requires_grad_(False)
    checkpointed, _, slope = gradients(field, "checkpoint", method="euler")
    reference, _, expected_slope = gradients(field, "backprop", method="euler")
    assert checkpointed.conv1.weight.grad is None and checkpointed.conv1.bias.grad is None
    assert torch.equal(slope, expected_slope)
    assert_parameter_gradients_equal(checkpointed.conv2, reference.conv2)


def test_a_parameter_that_the_field_never_uses_gets_no_gradient():
    field = make("convolutions")
    field.idle = nn.Parameter(torch.ones(2))
    checkpointed, _, _ = gradients(field, "checkpoint")
    assert checkpointed.idle.grad is None
    assert checkpointed.conv1.weight.grad is not None


def test_a_frozen_field_passes_the_gradient_on_and_keeps_none():
    field = make("convolutions").requires_grad_(False)
    checkpointed, _, slope = gradients(field, "checkpoint")
    assert torch.equal(slope, gradients(field, "backprop")[2])
    assert all(p.grad is None for p in checkpointed.parameters())


def test_a_state_that_wants_no_gradient_trains_the_field_all_the_same():
    weights = {}
    for gradient in ("checkpoint", "backprop"):
        field = make("convolutions")
        field.zero_grad()
        odeint(field, images(), solver=SolverConfig("euler", STEPS, gradient)).state.square().sum().backward()
        weights[gradient] = field
    assert_parameter_gradients_equal(weights["checkpoint"], weights["backprop"])


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


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_a_hook_on_a_parameter_fires_once_a_backward_pass(gradient):
    field, fired = make("convolutions"), []
    for name, parameter in field.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: fired.append(name))
    odeint(field, images(), solver=SolverConfig("midpoint", STEPS, gradient)).state.sum().backward()
    assert sorted(fired) == sorted(name for name, _ in field.named_parameters())


def test_a_second_derivative_is_refused():
    x = images().requires_grad_()
    end = odeint(make("convolutions"), x).state
    (slope,) = torch.autograd.grad(end.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_backprop_has_second_derivatives():
    x = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    end = odeint(lambda t, x: x**2, x, solver=SolverConfig("euler", 1, "backprop")).state
    (slope,) = torch.autograd.grad(end.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert (slope.item(), curvature.item()) == (2.0, 2.0)  # x + x^2


def test_parameters_may_be_a_generator():
    layer = nn.Linear(3, 3)
    solution = odeint(lambda t, x: layer(x), torch.randn(2, 3), parameters=layer.parameters())
    solution.state.sum().backward()
    assert layer.weight.grad is not None


class Normalise(nn.Module):
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
    odeint(Normalise(norm.eval()), x, solver=solver).state.square().sum().backward()
    return x.grad, norm.running_mean


def test_an_instance_norm_in_evaluation_is_recomputed_as_it_was():
    for a, b in zip(*map(instance_norm_in_evaluation, ("checkpoint", "backprop")), strict=True):
        assert torch.equal(a, b)
