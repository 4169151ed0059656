"""Uses of a solve that work and must go on doing so: long grids, half precision, copies, hooks, second derivatives."""

import copy
import math

import pytest
import torch
from closed_form_problems import Turning
from torch import nn

from odebackbones.block import ODEBlock
from odebackbones.ode import SolverConfig, odeint

MODES = {
    "backprop": SolverConfig("rk4", 6, "backprop"),
    "checkpoint": SolverConfig("rk4", 6),
    "sqrt of checkpoints": SolverConfig("rk4", 6, checkpoints="sqrt"),
    "reversible": SolverConfig("leapfrog", 6, "reversible"),
}
modes = pytest.mark.parametrize("solver", MODES.values(), ids=MODES)


def numbers(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        SolverConfig("euler", 20_000),
        SolverConfig("leapfrog", 20_000, "reversible", state_dtype="float64"),
    ],
    ids=lambda solver: f"{solver.method}, {solver.gradient}, {solver.checkpoints}",
)
def test_grids_of_20_000_steps_are_solved_and_differentiated(solver):
    rate, x = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True), torch.ones(1, dtype=torch.float64)
    end = odeint(lambda t, x: rate * x, x, solver=solver, parameters=(rate,)).state
    end.backward()
    assert end.item() == pytest.approx(math.exp(-1), rel=1e-4)
    assert rate.grad.item() == pytest.approx(math.exp(-1), rel=1e-4)


@modes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fields_and_states_of_half_precision_stay_so(solver, dtype):
    field, x = Turning(torch.float32), numbers(4, 3)
    expected = odeint(field, x, solver=solver).state.detach()
    half = copy.deepcopy(field).to(dtype)
    end = odeint(half, x.to(dtype).requires_grad_(), solver=solver).state
    end.float().square().sum().backward()
    assert end.dtype == half.weight.grad.dtype == dtype
    torch.testing.assert_close(end.float(), expected, rtol=0.05, atol=0.05)
    assert half.weight.grad.isfinite().all() and half.weight.grad.abs().max() > 0


@modes
def test_a_copy_of_a_block_is_a_block_of_its_own_also_after_a_solve(solver):
    block, x = ODEBlock(Turning(torch.float32), solver), numbers(4, 3)
    block(x).sum().backward()
    twin = copy.deepcopy(block)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1.0)
    before = block.field.weight.grad.clone()
    twin.zero_grad()
    twin(x).sum().backward()
    assert torch.equal(block.field.weight.grad, before)
    assert twin.field.weight.grad is not None and not torch.equal(twin(x), block(x))


@modes
def test_hooks_on_the_field_and_on_the_block_fire(solver):
    block, seen = ODEBlock(Turning(torch.float32), solver), []
    block.field.register_forward_hook(lambda *_: seen.append("field"))
    block.register_forward_hook(lambda *_: seen.append("block"))
    block.register_full_backward_hook(lambda *_: seen.append("backward"))
    x = numbers(4, 3).requires_grad_()
    block(x).sum().backward()
    stats = block.stats()
    assert seen.count("block") == seen.count("backward") == 1
    assert seen.count("field") == stats.nfe + stats.nfe_backward


@modes
def test_a_hook_of_the_user_that_changes_the_slope_counts_in_the_gradient(solver):
    found = []
    for hooked in (True, False):
        field, x = Turning(torch.float32), numbers(4, 3).requires_grad_()
        if hooked:
            field.register_forward_hook(lambda module, inputs, slope: 2.0 * slope)
        span = (0.0, 1.0)
        model = field if hooked else Doubled(field)
        odeint(model, x, span, solver).state.square().sum().backward()
        found.append((x.grad, field.weight.grad))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


class Doubled(nn.Module):
    """Twice a field."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, t, x):
        return 2.0 * self.field(t, x)
