"""Gradients by exact reversal: states found again to the last bit, in a memory that does not grow with the steps."""

import copy
from dataclasses import replace
from functools import cache
from itertools import chain

import pytest
import torch
from reversible_solvers import config, methods, state_dtypes
from torch import nn
from trained_fields import (
    CHANNELS,
    FIELDS,
    RANDOM,
    STEPS,
    ConvField,
    assert_buffers_equal,
    gradients,
    images,
    make,
    passes,
    relative_error,
)

from engine.measure.profile import peak_memory_mib
from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, build_method, odeint
from odebackbones.ode.gradients.reversible import FixedPair

REFERENCES = {"auto": "int32", "int32": "int32", "float64": "float64"}
"""``state_dtype`` -> that of the same arithmetic by plain backprop."""


TOLERANCES = {"leapfrog": 4e-6, "alf": 1e-6, "reversible_heun": 1e-6}
"""Of gradients in float32; leapfrog's other mode amplifies their rounding, by backprop in float32 as much as here."""


def plain(solver):
    """The same solve by backprop, in the same arithmetic."""
    return replace(solver, gradient="backprop", state_dtype=REFERENCES[solver.state_dtype])


@cache
def by_backprop(name, method, state_dtype):
    return passes(make(name, method), plain(config(method, state_dtype=state_dtype)))


@pytest.mark.parametrize("state_dtype", REFERENCES)
@methods
@pytest.mark.parametrize("name", FIELDS)
def test_the_end_is_that_of_the_autograd_reference_and_so_are_the_gradients(name, method, state_dtype):
    found = passes(make(name, method), config(method, state_dtype=state_dtype))
    reference = by_backprop(name, method, REFERENCES[state_dtype])
    assert torch.equal(found.end, reference.end)
    assert relative_error([found.slope], [reference.slope]) <= TOLERANCES[method]
    assert relative_error(gradients(found.field), gradients(reference.field)) <= TOLERANCES[method]
    assert_buffers_equal(found.field, reference.field)
    assert torch.equal(found.random_state, reference.random_state)


@methods
@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_draws_otherwise(name, method):
    slopes = [passes(make(name), config(method), seed=seed).slope for seed in (7, 7, 8)]
    assert torch.equal(slopes[0], slopes[1])
    assert relative_error(slopes[2:], slopes[:1]) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@state_dtypes
@methods
def test_the_end_is_that_of_the_reference_in_every_dtype_of_the_state(method, state_dtype, dtype):
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    solver, ends = config(method, 64, state_dtype), []
    for solved in (solver, plain(solver)):
        ends.append(odeint(lambda t, x: torch.sin(t + x) + 1.4 * x, x, (0.0, 1.0), solved, parameters=()).state)
    # beyond the 2^24 quanta that float32 holds exactly
    assert ends[0].abs().max() > 2.4 * x.abs().max()
    assert torch.equal(*ends)


@methods
@pytest.mark.parametrize("name", ["convolutions", "BatchNorm2d", "TimeBatchNorm2d"])
def test_rounding_to_fixed_point_moves_little(name, method):
    found = passes(make(name, method), config(method))
    floats = passes(make(name, method), SolverConfig(method, STEPS, "backprop", state_dtype="float"))
    assert 0 < relative_error([found.end], [floats.end]) <= 1e-5
    assert relative_error([found.slope], [floats.slope]) <= 1e-5
    assert relative_error(gradients(found.field), gradients(floats.field)) <= 1e-5


ARITHMETICS = {
    "float32": (torch.float32, "int32", False),
    "float32 under autocast": (torch.float32, "int32", True),
    "float64": (torch.float64, "float64", False),
    "float64 in int32": (torch.float64, "int32", False),
    "bfloat16": (torch.bfloat16, "int32", False),
}
"""Name -> the state's dtype, ``state_dtype``, and whether there is bfloat16 autocast."""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [7, 256])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@methods
def test_a_reconstruction_is_exact_to_the_last_bit(method, arithmetic, steps):
    dtype, state_dtype, autocast = ARITHMETICS[arithmetic]
    field, scheme = make("BatchNorm2d").to(dtype), build_method(config(method, steps, state_dtype))
    start = scheme.start(field, images(dtype=dtype))
    pair = FixedPair(scheme, [z.to(scheme.form.storage, copy=True) for z in start[:2]], start[2], dtype)
    updates, history = list(chain(*scheme.scheme.steps)), []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, autocast, cache_enabled=False):
        for update in updates:
            history.append([z.clone() for z in pair.numbers])
            pair.apply(update, pair.evaluated(update, field).ends[0].detach())
        assert not torch.equal(pair.numbers[0], history[0][0])
        for update in reversed(updates):
            pair.undo(update, pair.evaluated(update, field).ends[0].detach())
            assert all(map(torch.equal, pair.numbers, history.pop()))


@methods
def test_the_same_updates_in_floats_lose_bits(method):
    field, floats = make("BatchNorm2d"), build_method(SolverConfig(method, 16, state_dtype="float"))
    updates, pair = list(chain(*floats.scheme.steps)), floats.start(field, images())
    with torch.no_grad():
        start = [z.clone() for z in pair]
        for target, source, factor, weight, evaluates, t in updates:
            slope = field(t, pair[source]) if evaluates else pair[source]
            pair[target] = factor * pair[target] + weight * slope
        for target, source, factor, weight, evaluates, t in reversed(updates):
            slope = field(t, pair[source]) if evaluates else pair[source]
            pair[target] = factor * (pair[target] - weight * slope)
    assert relative_error(pair[:1], start[:1]) < 1e-4  # these are the updates
    assert not torch.equal(pair[0], start[0])


class Watched(nn.Module):
    """A field that keeps copies of the states it sees."""

    def __init__(self, field):
        super().__init__()
        self.field = field
        self.seen = []

    def forward(self, t, x):
        self.seen.append((t, x.detach().clone()))
        return self.field(t, x)


@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
@state_dtypes
@methods
@pytest.mark.parametrize("name", ["BatchNorm2d", "dropout"])
def test_the_backward_pass_meets_the_states_of_the_forward_pass_in_reverse(name, method, state_dtype, autocast):
    field, x = Watched(make(name)), images().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, autocast):  # and not in the backward pass
        solution = odeint(field, x, solver=config(method, 12, state_dtype))
    forward, field.seen = field.seen, []
    solution.state.square().sum().backward()
    assert (len(forward), len(field.seen)) == (solution.stats.nfe, solution.stats.nfe_backward)
    for (t, state), (t_again, state_again) in zip(forward, reversed(field.seen), strict=True):
        assert t == t_again
        assert torch.equal(state, state_again)


@state_dtypes
@methods
def test_gradients_equal_central_differences(method, state_dtype):
    generator = torch.Generator().manual_seed(0)
    x, weight, dx, dweight = (torch.randn(n, 3, dtype=torch.float64, generator=generator) for n in (4, 3, 4, 3))

    def loss(x, weight):
        solver = config(method, 8, state_dtype)
        end = odeint(lambda t, x: torch.tanh((1 + t) * x @ weight), x, (0.2, 1.0), solver, parameters=(weight,)).state
        return end.square().sum()

    found = torch.autograd.grad(loss(x.requires_grad_(), weight.requires_grad_()), (x, weight))
    h = 1e-4 if state_dtype == "float64" else 1e-2  # the rounding, some 1e-13 or 1e-7, is divided by h
    with torch.no_grad():
        for slope, step in zip(found, [(h * dx, 0 * dweight), (0 * dx, h * dweight)], strict=True):
            difference = loss(x + step[0], weight + step[1]) - loss(x - step[0], weight - step[1])
            expected = difference.item() / (2 * h)
            direction = dx if slope is found[0] else dweight
            assert (slope * direction).sum().item() == pytest.approx(expected, rel=1e-7 if h == 1e-4 else 2e-3)


def peak_mib(solver):
    """Peak memory of a forward and backward pass."""
    torch.manual_seed(0)
    field, x = ConvField(nn.GroupNorm(2, 6)), images(size=32).requires_grad_()

    def call():
        odeint(field, x, solver=solver).state.sum().backward()
        x.grad = None
        field.zero_grad()

    call()  # what is allocated once and for all
    return peak_memory_mib(call, torch.device("cpu"))


@pytest.mark.slow
@state_dtypes
@methods
def test_the_memory_does_not_grow_with_the_steps(method, state_dtype):
    few, many = (peak_mib(config(method, steps, state_dtype)) for steps in (4, 64))
    assert many == pytest.approx(few, rel=0.01)
    assert few > 3 * CHANNELS * 32**2 * 4 / 2**20  # a state


@methods
def test_a_second_derivative_is_refused(method):
    x = images().requires_grad_()
    end = odeint(make("convolutions"), x, solver=config(method)).state
    with pytest.raises(InputError, match=r"no second derivatives \(create_graph=True\): use .*'checkpoint'"):
        torch.autograd.grad(end.sum(), x, create_graph=True)


@state_dtypes
@methods
@pytest.mark.parametrize("name", ["BatchNorm2d", *RANDOM])
def test_a_second_backward_pass_gives_the_same_gradients(name, method, state_dtype):
    field, x = make(name), images().requires_grad_()
    loss = odeint(field, x, solver=config(method, state_dtype=state_dtype)).state.square().sum()
    buffers = [b.clone() for b in field.buffers()]
    first, second = (torch.autograd.grad(loss, (x, *field.parameters()), retain_graph=keep) for keep in (True, False))
    assert all(map(torch.equal, first, second))
    assert all(map(torch.equal, buffers, field.buffers()))


@pytest.mark.slow
@methods
def test_a_compiled_field_has_the_same_gradients(method):
    field, eager = make("GroupNorm"), passes(make("GroupNorm"), config(method, 3))
    compiled = copy.deepcopy(field)
    compiled.zero_grad()
    compiled.compile(backend="aot_eager")
    x = images().requires_grad_()
    end = odeint(compiled, x, solver=config(method, 3)).state
    end.square().sum().backward()
    assert relative_error([end], [eager.end]) <= 1e-6
    assert relative_error([x.grad], [eager.slope]) <= 1e-6
    assert relative_error(gradients(compiled), gradients(eager.field)) <= 1e-6


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"method": "midpoint"}, r"'midpoint' .*works with leapfrog, alf, reversible_heun \(with damping=1\)"),
        ({"method": "dopri5"}, r"'dopri5' .*works with leapfrog, alf, reversible_heun \(with damping=1\)"),
        ({"method": "alf", "damping": 0.8}, r"'alf' with damping=0\.8 can't be run backward exactly"),
        ({"method": "leapfrog", "state_dtype": "float"}, r"exact sums: state_dtype='auto', 'int32' or 'float64'"),
        ({"method": "leapfrog", "state_dtype": "int23"}, r"unknown state_dtype 'int23'; did you mean 'int32'"),
    ],
)
def test_what_can_not_be_reversed_is_refused(kwargs, message):
    with pytest.raises(InputError, match=message):
        SolverConfig(gradient="reversible", **kwargs)
