"""Projected Runge-Kutta methods: states that are never negative."""

import pytest
import torch
from trained_fields import gradients, images, make

from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, odeint
from odebackbones.ode.methods.tableaus import TABLEAUS

methods = pytest.mark.parametrize("method", TABLEAUS)


@methods
def test_a_state_that_sinks_rests_on_zero(method):
    x = torch.tensor([0.3, 0.55, 2.0], dtype=torch.float64)
    states = odeint(lambda t, x: -torch.ones_like(x), x, (0.0, 0.5, 1.0), SolverConfig(method, 2, projected=True),
                    parameters=()).states  # fmt: skip
    expected = torch.stack([x, (x - 0.5).clamp(min=0.0), (x - 1.0).clamp(min=0.0)])
    torch.testing.assert_close(states, expected)


@pytest.mark.slow
@methods
def test_a_state_that_leaves_zero_is_no_longer_held(method):
    # x' = t - 1/2 from 0: at rest until t = 1/2, then (t - 1/2)^2 / 2
    solver = SolverConfig(method, 4000, "backprop", projected=True)
    end = odeint(lambda t, x: (t - 0.5) * torch.ones_like(x), torch.zeros(1, dtype=torch.float64), solver=solver).state
    assert end.item() == pytest.approx(0.125, abs=2e-4)


@methods
def test_a_state_that_stays_positive_is_not_changed(method):
    x, plain = torch.tensor([1.0, 2.0], dtype=torch.float64), SolverConfig(method, 5, "backprop")
    ends = [
        odeint(lambda t, x: (t - 0.2) * x, x, solver=solver).state
        for solver in (plain, SolverConfig(method, 5, "backprop", projected=True))
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize("checkpoints", ["every", "sqrt", 2])
@methods
def test_gradients_by_checkpoints_are_those_of_backprop(method, checkpoints):
    found = []
    for mode in ({"gradient": "backprop"}, {"checkpoints": checkpoints}):
        field, x = make("BatchNorm2d"), images().relu_().requires_grad_()
        end = odeint(field, x, solver=SolverConfig(method, 4, projected=True, **mode)).state
        end.square().sum().backward()
        found.append((end, x.grad, gradients(field)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    for expected, other in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(other, expected, rtol=1e-5, atol=1e-6)
    assert (found[0][0] >= 0.0).all() and (found[0][0] == 0.0).any()


@pytest.mark.parametrize(
    "options",
    [
        {"method": "leapfrog"},
        {"method": "dopri5"},
        {"method": "ab2"},
        {"method": "euler", "gradient": "adjoint"},
    ],
)
def test_other_methods_and_the_adjoint_are_not_projected(options):
    with pytest.raises(
        InputError,
        match=r"projected=True(: solver .* but euler, midpoint, .* have| works with every gradient mode but)",
    ):
        SolverConfig(projected=True, **options)
