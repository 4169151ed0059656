"""Running statistics under adaptive methods: those of the accepted steps."""

from itertools import pairwise

import pytest
import torch
from adaptive_solvers import config, evaluations, methods
from torch import nn
from trained_fields import (
    assert_buffers_equal,
    images,
    make,
)

from odebackbones.block import ODEBlock
from odebackbones.convert.solver import calibrate
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.ode import SolverConfig, odeint
from odebackbones.ode.methods.runge_kutta import RungeKutta
from odebackbones.ode.methods.tableaus import ADAPTIVE_TABLEAUS


@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
@methods
def test_a_training_step_counts_the_batch_once_for_each_evaluation_of_the_accepted_steps(method, gradient):
    field, x = make("BatchNorm2d"), images().requires_grad_()
    before = int(field.norm.num_batches_tracked)
    solution = odeint(field, x, (0.35, 0.65), config(method, gradient, rtol=1e-3))
    counted = int(field.norm.num_batches_tracked) - before
    solution.state.sum().backward()
    assert counted == evaluations(method, solution.stats.steps) > 1
    assert int(field.norm.num_batches_tracked) - before == counted
    assert field.norm.track_running_stats


class CountedTimes(nn.Module):
    """A field that writes down the times of its evaluations."""

    def __init__(self, field):
        super().__init__()
        self.field = field
        self.times = []

    def forward(self, t, x):
        self.times.append(t)
        return self.field(t, x)


def test_the_running_statistics_are_those_of_the_accepted_steps_on_a_fixed_grid():
    adaptive, fixed = make("BatchNorm2d"), make("BatchNorm2d")
    watched, ends = CountedTimes(adaptive), (0.35, 0.65)
    steps = odeint(watched, images(), ends, config("bosh3", rtol=1e-3)).stats.steps
    starts = [*watched.times[-3 * steps :: 3], ends[1]]
    grid = [(a, b - a) for a, b in pairwise(starts)]
    RungeKutta(tableau=ADAPTIVE_TABLEAUS["bosh3"], grid=grid).solve(fixed, images())
    assert_buffers_equal(adaptive, fixed)


@pytest.mark.parametrize("method", ["midpoint", "dopri5"])
def test_a_solve_without_gradients_in_training_mode_counts_the_batch_too(method):
    counted, solver = [], SolverConfig(method)
    for grad in (True, False):
        field = make("BatchNorm2d")
        with torch.set_grad_enabled(grad):
            odeint(field, images(), solver=solver)
        counted.append(dict(field.named_buffers()))
    for key, buffer in counted[0].items():
        torch.testing.assert_close(counted[1][key], buffer, msg=key)


@pytest.mark.parametrize("method", ["midpoint", "dopri5"])
def test_statistics_are_calibrated_for_an_adaptive_method_too(method):
    block = ODEBlock(make("TimeBatchNorm2d", "midpoint"), SolverConfig(method))
    norms = [m for m in block.modules() if isinstance(m, TimeBatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    calibrate(block, [3.0 * images(seed) + 1.0 for seed in range(3)])
    assert not any(torch.equal(old, norm.running_mean) for old, norm in zip(before, norms, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_a_field_that_evaluates_keeps_its_statistics(training):
    field = make("TimeBatchNorm2d").train(training)
    kept = [b.clone() for b in field.buffers()]
    odeint(field, images(), (0.35, 0.65), config("dopri5", rtol=1e-3))
    assert all(map(torch.equal, kept, field.buffers())) == (not training)
