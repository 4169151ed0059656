"""Another solver for the same weights: what changes, what stays, and the statistics that are estimated anew."""

import copy

import pytest
import timm
import torch
from torch import nn

import odebackbones
from odebackbones import InputError, ODEBlock, calibrate, change_solver
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig, odeint
from odebackbones.ode.solvers import evaluation_times

CHANNELS = 4


def images(batch=6, seed=1):
    return torch.randn(batch, CHANNELS, 8, 9, generator=torch.Generator().manual_seed(seed))


def make_block(method="midpoint", steps=4, norm="batch"):
    """A block in evaluation mode, whose running statistics are those of some batches."""
    torch.manual_seed(0)
    solver = SolverConfig(method, steps)
    layers = norm_layer(norm, nodes=evaluation_times(solver), bases=1)
    block = ODEBlock(BasicField(CHANNELS, width=6, norm=layers), solver)
    for seed in range(3):
        block(images(seed=seed))
    return block.eval()


def norms(model):
    return [module for module in model.modules() if isinstance(module, TimeBatchNorm2d)]


def test_the_model_that_is_changed_stays_as_it_was():
    model = nn.Sequential(make_block(), nn.ReLU(), make_block("euler", 2))
    before, expected = copy.deepcopy(model.state_dict()), model(images())
    changed = change_solver(model, "rk4", steps=3)
    assert [changed[i].solver for i in (0, 2)] == [SolverConfig("rk4", 3)] * 2
    assert [model[i].solver for i in (0, 2)] == [SolverConfig("midpoint", 4), SolverConfig("euler", 2)]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(model(images()), expected)


def test_what_is_not_named_is_kept_block_by_block():
    changed = change_solver(nn.Sequential(make_block(), make_block("euler", 2)), checkpoints="sqrt")
    assert [block.solver.method for block in changed] == ["midpoint", "euler"]
    assert [block.solver.steps for block in changed] == [4, 2]
    assert all(block.solver.checkpoints == "sqrt" for block in changed)


def test_the_weights_are_the_same():
    block = make_block()
    changed = change_solver(block, "rk4", steps=8)
    for found, expected in zip(changed.parameters(), block.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_the_changed_block_is_the_flow_of_the_same_field_by_the_new_solver():
    block = make_block(norm="frozen")  # its statistics, 0 and 1, don't depend on time
    solver = SolverConfig("ab3", 7)
    with torch.no_grad():
        expected = odeint(block.field, images(), solver=solver).state
        assert torch.equal(change_solver(block, "ab3", steps=7)(images()), expected)


def test_statistics_are_interpolated_linearly_in_time():
    block = make_block("euler", 2)  # nodes 0 and 0.5
    first = norms(change_solver(block, "euler", steps=4))[0]
    mean, var = norms(block)[0].running_mean, norms(block)[0].running_var
    assert first.nodes == [0.0, 0.25, 0.5, 0.75]
    torch.testing.assert_close(first.running_mean[1], (mean[0] + mean[1]) / 2)
    torch.testing.assert_close(first.running_var[1], (var[0] + var[1]) / 2)
    assert torch.equal(first.running_mean[0], mean[0])
    assert torch.equal(first.running_mean[3], mean[1])  # beyond the last node, its statistics


def test_a_change_of_gradient_mode_alone_leaves_the_statistics_alone():
    block = make_block()
    found = norms(change_solver(block, gradient="backprop"))[0]
    assert found.nodes == norms(block)[0].nodes and torch.equal(found.running_mean, norms(block)[0].running_mean)


def test_the_parameters_that_a_method_brings_are_there_after_the_change():
    changed = change_solver(make_block("euler", 3), "lm")
    assert changed.state_dict()["method.coefficients"].shape == (3,)
    with torch.no_grad():
        assert torch.equal(changed(images()), make_block("euler", 3)(images()))  # all coefficients are zero at first


def test_a_model_without_ode_blocks_is_refused():
    with pytest.raises(InputError, match="ResNet has no ODE block"):
        change_solver(timm.create_model("resnet18"), "euler")


def test_unknown_methods_and_fields_are_refused():
    with pytest.raises(InputError, match="midpoint"):
        change_solver(make_block(), "midpiont")
    with pytest.raises(InputError, match="unknown field of SolverConfig 'stepz'; did you mean 'steps'"):
        change_solver(make_block(), stepz=3)


def test_new_steps_are_even_ones():
    changed = change_solver(change_solver(make_block(), grid=(0.1, 1.0)), steps=4)
    assert [h for _, h in changed.method.grid] == [0.25] * 4


def first_statistics(block, batches):
    """Mean over the batches of the batch mean and the unbiased batch variance after the first convolution, at t = 0."""
    x = [block.field.conv1(batch, 0.0) for batch in batches]
    mean = torch.stack([z.mean(dim=(0, 2, 3)) for z in x]).mean(dim=0)
    return mean, torch.stack([z.var(dim=(0, 2, 3), unbiased=True) for z in x]).mean(dim=0)


def test_calibrated_statistics_are_the_mean_over_the_batches():
    block, batches = make_block(), [images(seed=seed) for seed in (5, 6, 7)]
    calibrate(block, iter(batches))
    mean, var = first_statistics(block, batches)
    norm = norms(block)[0]
    torch.testing.assert_close(norm.running_mean[0], mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var[0], var, rtol=1e-5, atol=1e-6)


def test_calibration_leaves_everything_else_as_it_was():
    model = nn.Sequential(nn.BatchNorm2d(CHANNELS), make_block(), nn.Dropout(0.5))
    model[0].train()
    block = model[1]
    for node in norms(block)[1].norms:
        node.momentum = 0.3
    before = copy.deepcopy(model.state_dict())
    calibrate(model, [images(seed=5)])
    assert [module.training for module in model] == [True, False, True]
    assert [norm.momentum for norm in norms(block)] == [0.1, 0.3]
    changed = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert {key.rpartition(".")[2] for key in changed} == {"running_mean", "running_var"}
    assert all(key.startswith("1.") for key in changed)


def test_calibration_brings_evaluation_to_what_training_sees():
    block, batch = make_block("euler", 2), images(32, seed=5)
    changed = change_solver(block, "rk4", steps=4)
    expected = copy.deepcopy(changed).train()(batch)
    before = (changed(batch) - expected).norm()
    calibrate(changed, [batch])
    assert (changed(batch) - expected).norm() < 0.05 * before


def test_frozen_norms_are_calibrated_too_and_stay_frozen():
    block = make_block(norm="frozen")
    calibrate(block, [images()])
    mean, _ = first_statistics(block, [images()])
    torch.testing.assert_close(norms(block)[0].running_mean[0], mean, rtol=1e-5, atol=1e-6)
    assert all(norm.frozen for norm in norms(block))


def test_batches_may_be_anything_that_the_model_is_run_on():
    block, other, targets = make_block(), make_block(), torch.zeros(6)
    calibrate(block, [(images(), targets)])
    calibrate(other, [{"image": images()}], forward=lambda model, batch: model(batch["image"]))
    assert torch.equal(norms(block)[0].running_mean, norms(other)[0].running_mean)


def test_calibration_without_batches_is_refused():
    with pytest.raises(InputError, match="no batches"):
        calibrate(make_block(), [])


@pytest.mark.slow
def test_a_whole_backbone_is_changed():
    body = timm.create_model("ode_resnet18", features_only=True, channels=(8, 8, 16, 16))
    changed = change_solver(body, "heun", steps=2)
    assert {stats.nfe for stats in odebackbones.solver_stats(changed).values()} == {4}
    assert [level.shape for level in changed(torch.rand(1, 3, 64, 64))] == [
        level.shape for level in body(torch.rand(1, 3, 64, 64))
    ]
