"""Transforms of torch.func, and derivatives of derivatives."""

import math

import pytest
import torch
from closed_form_problems import ROTATION, CountedDecay, Turning
from dense_times import ASCENDING, DOUBLE, SOLVERS, exact, randn
from torch import nn

from odebackbones.ode import SolverConfig, odeint

FLOW = torch.linalg.matrix_exp(ROTATION).T
"""x(1) = x(0) @ FLOW for the damped rotation."""


def rotated(x, solver):
    return odeint(lambda t, x: x @ ROTATION.T, x, (0.0, 1.0), solver, parameters=()).state


@pytest.mark.slow
@exact
@pytest.mark.parametrize("jacobian", [torch.func.jacrev, torch.func.jacfwd], ids=["jacrev", "jacfwd"])
@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch scripts its own formulae for jacfwd
def test_the_jacobian_of_a_linear_flow_is_the_flow(jacobian, solver):
    found = jacobian(lambda x: rotated(x, solver))(randn(2))
    torch.testing.assert_close(found, FLOW.T, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch scripts its own formulae for jvp
@exact
def test_a_product_with_a_tangent_is_the_flow_of_the_tangent(solver):
    x, tangent = randn(2), randn(2, seed=1)
    end, moved = torch.func.jvp(lambda x: rotated(x, solver), (x,), (tangent,))
    torch.testing.assert_close(end, rotated(x, solver), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(moved, rotated(tangent, solver), rtol=1e-13, atol=1e-13)


def loss(weight, x, solver):
    def field(t, x):
        return torch.tanh((1.0 + t) * x @ weight)

    return odeint(field, x, (0.0, 1.0), solver, parameters=(weight,)).state.square().sum()


@exact
def test_grad_is_that_of_autograd(solver):
    weight, x = randn(3, 3, seed=1), randn(2, 3)
    found = torch.func.grad(loss, argnums=(0, 1))(weight, x, solver)
    wanted = weight.requires_grad_(), x.requires_grad_()
    expected = torch.autograd.grad(loss(*wanted, SOLVERS["backprop"]), wanted)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)


@exact
def test_vmap_over_states_is_a_batch_and_over_weights_an_ensemble(solver):
    x, weights = randn(5, 3), randn(4, 3, 3, seed=3)

    def end(weight, x):
        return odeint(lambda t, x: torch.tanh(x @ weight), x, (0.0, 1.0), solver, parameters=(weight,)).state

    torch.testing.assert_close(torch.func.vmap(end, in_dims=(None, 0))(weights[0], x), end(weights[0], x))
    ensemble = torch.func.vmap(end, in_dims=(0, None))(weights, x)
    torch.testing.assert_close(ensemble, torch.stack([end(weight, x) for weight in weights]))


@exact
def test_gradients_of_each_sample_come_of_vmap_over_grad(solver):
    weight, x = randn(3, 3, seed=1), randn(5, 3)
    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, None))(weight, x, solver)
    for row, slope in zip(x, found, strict=True):
        wanted = weight.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(wanted, row, SOLVERS["backprop"]), wanted)
        torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@exact
def test_second_derivatives_equal_finite_differences(solver):
    def end(x, weight):
        return odeint(lambda t, x: torch.tanh((1 + t) * x @ weight), x, (0.2, 0.6), solver, parameters=(weight,)).state

    inputs = randn(1, 2).requires_grad_(), randn(2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(end, inputs)


@exact
def test_the_second_derivative_by_the_rate_is_that_of_the_closed_form(solver):
    rate, x = torch.tensor(-0.7, dtype=DOUBLE, requires_grad=True), randn(3).abs()
    end = odeint(lambda t, x: rate * x, x.requires_grad_(), (0.0, 2.0), solver, parameters=(rate,)).state.sum()
    (first,) = torch.autograd.grad(end, rate, create_graph=True)  # t x0 exp(r t)
    second, mixed = torch.autograd.grad(first, (rate, x))  # t^2 x0 exp(r t), and t exp(r t)
    torch.testing.assert_close(second, 4.0 * (x * math.exp(-1.4)).sum().detach(), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(mixed, torch.full_like(x, 2.0 * math.exp(-1.4)), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("data_wants_gradient", [True, False])
@pytest.mark.parametrize("checkpoints", ["every", 2])
def test_a_penalty_on_gradients_trains_as_by_backprop(checkpoints, data_wants_gradient):
    found = []
    for solver in (SolverConfig("rk4", 4, checkpoints=checkpoints), SolverConfig("rk4", 4, "backprop")):
        field, x = Turning(), randn(2, 3).requires_grad_(data_wants_gradient)
        wanted = (field.weight, x) if data_wants_gradient else (field.weight,)
        end = odeint(field, x, solver=solver).state.square().sum()
        slopes = torch.autograd.grad(end, wanted, create_graph=True)
        sum(slope.square().sum() for slope in slopes).backward()
        found.append(field.weight.grad)
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("checkpoints", ["every", 2])
def test_second_derivatives_of_a_random_field_draw_as_the_forward_pass_did(checkpoints):
    found = []
    for solver in (SolverConfig("rk4", 4, checkpoints=checkpoints), SolverConfig("rk4", 4, "backprop")):
        field, x = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3)).double(), randn(2, 3)
        for p in field.parameters():
            nn.init.normal_(p, generator=torch.Generator().manual_seed(p.numel()))
        torch.manual_seed(5)
        end = odeint(Timeless(field), x.requires_grad_(), solver=solver).state.square().sum()
        (slope,) = torch.autograd.grad(end, x, create_graph=True)
        slope.square().sum().backward()
        found.append([p.grad for p in field.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-12)


class Timeless(nn.Module):
    """A network as a field that the time does not change."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, t, x):
        return self.network(x)


def test_a_solve_of_many_times_counts_all_its_evaluations():
    field = CountedDecay()
    stats = odeint(field, randn(2), ASCENDING, SolverConfig("heun", 3, "backprop")).stats
    assert (stats.nfe, stats.steps) == (len(field.times), 15) == (30, 15)
