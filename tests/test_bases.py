"""Weights over time: the functions, and the projection from one basis to another."""

import math

import numpy as np
import pytest
import timm
import torch

from odebackbones import InputError, change_bases, change_solver, fuse
from odebackbones.block import ode_blocks
from odebackbones.fields.basis import BASES, basis_values, projection, refined_size
from odebackbones.fields.conv import TimeConv2d
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField

TIMES = [0.0, 0.1, 1 / 3, 0.5, 0.77, 1.0]
SMALL = {"channels": (8, 16, 24, 32), "num_classes": 5, "zero_init_last": False}


def basis_sizes(model):
    """How many weights the convolutions have over time."""
    return {len(module.weight) for module in model.modules() if isinstance(module, TimeConv2d)}


def values(basis, size, times=TIMES):
    return torch.tensor([basis_values(basis, size, t) for t in times], dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("basis", ["constant", "linear", "spline"])
def test_the_functions_are_not_negative_and_sum_to_one(basis, size):
    found = values(basis, size)
    assert (found >= 0.0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(TIMES), dtype=torch.float64))


def test_hats_interpolate_between_even_knots():
    coefficients = [0.0, 1.0, 4.0, 9.0]
    found = values("linear", 4) @ torch.tensor(coefficients, dtype=torch.float64)
    np.testing.assert_allclose(found, np.interp(TIMES, [0, 1 / 3, 2 / 3, 1], coefficients), atol=1e-12)


def test_four_splines_are_bernsteins_polynomials():
    bernstein = [[math.comb(3, k) * t**k * (1 - t) ** (3 - k) for k in range(4)] for t in TIMES]
    np.testing.assert_allclose(values("spline", 4), bernstein, atol=1e-12)


def test_many_splines_reproduce_the_time_from_the_means_of_their_knots():
    # Greville: t = sum_k xi_k B_k(t), where xi_k is the mean of the three knots inside the support of B_k
    xi = torch.tensor([0.0, 1 / 15, 3 / 15, 6 / 15, 9 / 15, 12 / 15, 14 / 15, 1.0], dtype=torch.float64)
    np.testing.assert_allclose(values("spline", 8) @ xi, TIMES, atol=1e-12)


def test_chebyshevs_polynomials_are_cosines_of_multiples():
    angles = np.arccos(2 * np.array(TIMES) - 1)
    np.testing.assert_allclose(values("chebyshev", 5), np.cos(np.outer(angles, range(5))), atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("basis", BASES)
def test_a_refined_basis_can_be_the_same_function(basis, size):
    finer = refined_size(basis, size)
    assert finer > size
    times = [0.013, 0.21, 0.5001, 0.83, 0.99]
    mapped = values(basis, finer, times) @ projection(basis, size, basis, finer)
    torch.testing.assert_close(mapped, values(basis, size, times), rtol=1e-9, atol=1e-9)


def test_fewer_pieces_are_means_and_a_line_is_the_regression():
    halves = projection("constant", 4, "constant", 2)
    torch.testing.assert_close(halves, torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], dtype=torch.float64))
    # the line nearest to the step from 0 to 1 at 1/2, over [0, 1], is 1.5 t - 0.25
    line = projection("constant", 2, "linear", 2) @ torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(line, torch.tensor([-0.25, 1.25], dtype=torch.float64), rtol=0.0, atol=1e-3)


def test_a_projection_is_nearest_at_the_times_that_count():
    line = projection("constant", 2, "linear", 2, times=[0.0, 0.5])  # through both weights, where Euler evaluates
    torch.testing.assert_close(line, torch.tensor([[1.0, 0.0], [-1.0, 2.0]], dtype=torch.float64), rtol=0.0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("basis", BASES)
def test_as_many_weights_as_evaluations_are_the_same_function_in_every_basis(basis):
    torch.manual_seed(0)
    model = timm.create_model("ode_resnet18", solver="euler", steps=4, bases=4, **SMALL).double().eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(change_bases(model, 4, basis=basis)(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("basis", BASES)
def test_a_convolution_has_the_weight_that_its_basis_says(basis):
    torch.manual_seed(0)
    conv, x = TimeConv2d(3, 4, kernel_size=3, bases=4, basis=basis).double(), torch.randn(1, 3, 5, 5).double()
    for weight in conv.weight:
        torch.nn.init.normal_(weight)
    for t, row in zip(TIMES, values(basis, 4), strict=True):
        weight = torch.tensordot(row, torch.stack(list(conv.weight)), dims=1)
        torch.testing.assert_close(conv(x, t), torch.nn.functional.conv2d(x, weight, padding=1))
        torch.testing.assert_close(conv.at(t)(x), conv(x, t))


@pytest.mark.slow
@pytest.mark.parametrize("basis", BASES)
def test_export_follows_a_field_of_any_basis(basis):
    torch.manual_seed(0)
    norm = norm_layer("batch", nodes=[0.0, 0.25, 0.5, 0.75], bases=3, basis=basis)
    field = BasicField(4, width=6, norm=norm, bases=3, basis=basis, time_channel=True).eval()
    x = torch.randn(2, 4, 6, 7)
    for t in TIMES:
        torch.testing.assert_close(torch.export.export(field, (t, x)).module()(t, x), field(t, x))


@pytest.mark.slow
@pytest.mark.parametrize("basis", BASES)
def test_a_model_of_any_basis_learns_and_is_fused(basis):
    torch.manual_seed(0)
    model = timm.create_model("ode_resnet18", steps=3, bases=3, basis=basis, **SMALL)
    x = torch.randn(2, 3, 64, 64)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in ode_blocks(model)[0].parameters())
    torch.testing.assert_close(fuse(model)(x), model.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("basis", BASES)
def test_refining_a_model_keeps_its_function_and_projecting_it_back_its_weights(basis):
    torch.manual_seed(0)
    model = timm.create_model("ode_resnet18", steps=4, bases=2, basis=basis, **SMALL).double().eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    finer = change_bases(model, refined_size(basis, 2))
    assert basis_sizes(finer) == {refined_size(basis, 2)}
    torch.testing.assert_close(finer(x), model(x))
    back = change_bases(finer, 2)
    for found, expected in zip(back.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_number_of_weights_for_each_block_and_another_basis():
    model = timm.create_model("ode_resnet18", steps=4, bases=4, **SMALL)
    changed = change_bases(model, (4, 3, 2, 1), basis="linear")
    assert [basis_sizes(block) for block in ode_blocks(changed)] == [{4}, {3}, {2}, {1}]
    assert torch.isfinite(change_solver(changed, "euler", steps=5).eval()(torch.randn(1, 3, 64, 64))).all()


def test_the_norms_may_have_more_weights_than_the_convolutions():
    built = timm.create_model("ode_resnet18", steps=4, bases=2, norm_bases=(8, 4, 2, 1), **SMALL)
    changed = change_bases(timm.create_model("ode_resnet18", steps=4, **SMALL), 2, norm_bases=(8, 4, 2, 1))
    for model in (built, changed):
        norms = [len(block.field.norm1.weight) for block in ode_blocks(model)]
        assert norms == [8, 4, 2, 1] and basis_sizes(model) == {2}
    with pytest.raises(InputError, match=r"norm_bases=\[1, 2\]: expected a number, or 4"):
        change_bases(built, 2, norm_bases=[1, 2])
    with pytest.raises(InputError, match=r"bases=9: the solver evaluates at 8 times"):
        change_bases(built, 2, norm_bases=9)


@pytest.mark.parametrize(
    ("bases", "basis", "words"),
    [
        ((2, 2), None, "expected a number, or 4, one for each ODE block"),
        (0, None, "bases=0: expected a whole number of at least 1"),
        (2, "linaer", r"unknown basis 'linaer'; did you mean 'linear'"),
    ],
)
def test_a_change_to_what_is_no_basis_is_refused(bases, basis, words):
    with pytest.raises(InputError, match=words):
        change_bases(timm.create_model("ode_resnet18", **SMALL), bases, basis=basis)
