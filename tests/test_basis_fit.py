"""Fewer weights over time, fitted to a ResNet's states."""

import pytest
import timm
import torch
from torch import nn

from odebackbones import (
    InputError,
    change_bases,
    change_solver,
    fit_bases,
    from_resnet,
    ode_blocks,
    solver_stats,
    to_resnet,
)

WIDTHS = {"channels": (8, 16, 24, 32), "num_classes": 5}
MODELS = {
    "basic": lambda: timm.create_model("resnet20_cifar"),
    "bottleneck": lambda: timm.create_model("resnet26", layers=[3, 3, 3, 3], **WIDTHS),
    "dilated": lambda: timm.create_model("resnet18", layers=[3, 3, 3, 3], output_stride=8, **WIDTHS),
}


def trained(name, *, twins=False):
    """A ResNet with statistics of its own; with ``twins``, the two identity blocks of each stage are near."""
    torch.manual_seed(0)
    model = MODELS[name]().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 0.9)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
    if twins:
        for stage in (model.layer1, model.layer2, model.layer3):
            first, second = stage[1], stage[2]
            for conv in ("conv1", "conv2"):
                getattr(second, conv).load_state_dict(getattr(first, conv).state_dict())
            second.bn1.load_state_dict(first.bn1.state_dict())
    model.train()(images())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return model.eval()


def images(number=24):
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def difference(model, other):
    found, expected = other.eval()(images()), model.eval()(images())
    return float((found - expected).norm() / expected.norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_weight_for_every_step_gives_the_model_back(name):
    converted = from_resnet(trained(name))
    fitted = fit_bases(converted, [block.solver.steps for block in ode_blocks(converted)], images())
    assert difference(converted, fitted) < 0.03  # the ridge, and few pixels in the last stage


@pytest.mark.slow
def test_a_model_with_the_duration_of_its_blocks_is_fitted_alike():
    like_resnet = {"solver": "euler", "projected": True, "steps": 2, "bases": 2}
    outputs = []
    for duration in (1, 2):
        model = timm.create_model("ode_resnet20_cifar", duration=duration, **like_resnet).double()
        model.load_state_dict(from_resnet(trained("basic")).state_dict())
        for block in ode_blocks(model):
            for parameter in block.field.norm2.parameters():
                parameter.data.div_(duration)
        outputs.append(fit_bases(model.eval(), 1, images()))
    assert difference(*outputs) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_fitted_weights_are_nearer_than_projected_ones(name):
    converted = from_resnet(trained(name))
    fitted, projected = fit_bases(converted, 1, images()), change_bases(converted, 1)
    assert difference(converted, fitted) < 0.9 * difference(converted, projected)


@pytest.mark.slow
def test_blocks_that_differ_in_the_last_norm_need_but_one_weight():
    model = trained("basic", twins=True)
    for stage in (model.layer1, model.layer2, model.layer3):  # the statistics of the first norm, too
        stage[2].bn1.running_mean, stage[2].bn1.running_var = stage[1].bn1.running_mean, stage[1].bn1.running_var
        nn.init.constant_(stage[1].bn2.weight, 0.5)
        nn.init.constant_(stage[2].bn2.weight, 0.5)
    converted = from_resnet(model)
    assert difference(converted, fit_bases(converted, 1, images())) < 0.5 * difference(
        from_resnet(trained("basic")), fit_bases(from_resnet(trained("basic")), 1, images())
    )


@pytest.mark.slow
def test_fewer_steps_take_the_place_of_several():
    converted = from_resnet(trained("basic"))
    fitted = fit_bases(converted, 1, images(), steps=1)
    assert [stats.nfe for stats in solver_stats(fitted).values()] == [1, 1, 1]
    without = to_resnet(converted)
    for stage in (without.layer1, without.layer2, without.layer3):
        del stage[2]
    assert difference(converted, fitted) < difference(converted, without)
    assert difference(fitted, to_resnet(fitted)) < 1e-9


@pytest.mark.slow
def test_the_model_stays_as_it_is_and_the_fitted_one_is_trained_as_it_was():
    converted = from_resnet(trained("basic")).train()
    before = {name: tensor.clone() for name, tensor in converted.state_dict().items()}
    fitted = fit_bases(converted, 1, images(8))
    assert converted.training and fitted.training
    assert all(p.requires_grad for p in fitted.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in converted.state_dict().items())


def test_what_can_not_be_fitted_is_refused():
    converted = from_resnet(trained("basic"))
    for model, arguments, message in (
        (change_bases(converted, 1), {"bases": 1}, "a weight for every projected Euler step"),
        (change_solver(converted, "midpoint"), {"bases": 1}, "expected solver 'euler', got 'midpoint'"),
        (converted, {"bases": 1, "steps": 3}, "steps=3: expected 1 to 2"),
        (converted, {"bases": 2, "steps": 1}, "bases=2: the solver evaluates at 1 times"),
        (from_resnet(timm.create_model("seresnet18", **WIDTHS)), {"bases": 1}, "channel attention can't be fitted"),
    ):
        with pytest.raises(InputError, match=message):
            fit_bases(model, images=images(2), **arguments)
