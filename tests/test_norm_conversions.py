"""Tools that look for BatchNorm2d find the norms of ODE models: what they do to a ResNet they do to its ODE form."""

import copy

import pytest
import timm
import timm.layers
import timm.utils
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from odebackbones import from_resnet
from odebackbones.fields.batch_norm import TimeBatchNorm2d

PARTS = ("running_mean", "running_var")


def images(seed=0):
    return 2.0 * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) + 0.5


def pair():
    """A ResNet and its ODE form, of one function."""
    torch.manual_seed(0)
    resnet = timm.create_model("resnet26t", layers=(2, 3, 2, 2), num_classes=5, zero_init_last=False)
    resnet.train()(images())
    return resnet, from_resnet(resnet)


def statistics(model):
    """Those of all norms: as many for a ResNet and for its ODE form."""
    found = [
        module for module in model.modules() if hasattr(module, "running_mean") and type(module) is not TimeBatchNorm2d
    ]
    return torch.cat([torch.cat([getattr(module, part) for part in PARTS]) for module in found])


def assert_alike(resnet, ode):
    """The same sum of all statistics, whose order differs."""
    ours, theirs = (statistics(model).sort().values for model in (ode, resnet))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "convert", [nn.SyncBatchNorm.convert_sync_batchnorm, timm.layers.convert_sync_batchnorm], ids=["torch", "timm"]
)
@pytest.mark.parametrize("gradient", ["checkpoint", "backprop"])
def test_all_norms_are_synchronized(convert, gradient):
    _, ode = pair()
    for flow in ode.ode_blocks_by_stage():
        flow and flow.set_solver(flow.solver.__class__("euler", flow.solver.steps, gradient, projected=True))
    converted = convert(copy.deepcopy(ode))
    norms = [module for module in converted.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert len(norms) == sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in ode.modules())
    for model in (ode, converted):
        model(images(1)).square().sum().backward()
    assert_alike(ode, converted)
    for found, expected in zip(converted.parameters(), ode.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(converted.eval()(images()), ode.eval()(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [timm.utils.freeze, timm.layers.freeze_batch_norm_2d], ids=["freeze", "norms"])
def test_freezing_stops_all_statistics(freeze):
    resnet, ode = pair()
    expected = ode.eval()(images())
    for model in (resnet, ode):
        freeze(model)
        model.train()
    before = statistics(ode)
    torch.testing.assert_close(ode(images()), expected)
    ode(images(3))
    assert torch.equal(statistics(ode), before)
    assert any(p.requires_grad for p in ode.parameters()) == any(p.requires_grad for p in resnet.parameters())


@pytest.mark.slow
def test_update_bn_estimates_all_statistics():
    resnet, ode = pair()
    before = statistics(ode)
    for model in (resnet, ode):
        update_bn([images(seed) for seed in (4, 5, 6)], model)
    assert_alike(resnet, ode)
    assert not torch.allclose(statistics(ode), before, atol=1e-2)


@pytest.mark.slow
def test_the_moving_average_of_a_model_has_that_of_its_statistics():
    _, ode = pair()
    ema = timm.utils.ModelEmaV3(ode, decay=0.75)
    before = statistics(ema.module)
    ode(images(2))
    ema.update(ode)
    torch.testing.assert_close(statistics(ema.module), 0.75 * before + 0.25 * statistics(ode))
    assert torch.isfinite(ema.module.eval()(images())).all()
