"""Recomputed blocks: the gradients and buffers of the plain ones, in less memory."""

import copy

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock
from torch import nn

from engine.measure.profile import peak_memory_mib
from odebackbones import InputError, recompute_blocks
from odebackbones.models.recompute import Recomputed

MODELS = {
    "basic blocks": ("resnet18", {}),
    "bottlenecks": ("resnet26", {}),
    "drop path": ("resnet18", {"drop_path_rate": 0.3}),
    "beside ODE blocks": ("ode_resnet18", {"zero_init_last": False}),
}


def images(seed=0):
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def make_model(name, kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5, channels=(8, 8, 16, 16), **kwargs).train()


def training_step(model):
    """Outputs, gradients, buffers and the random generator's state after a step."""
    x = images().requires_grad_()
    torch.manual_seed(1)
    end = model(x)
    end.square().sum().backward()
    return [end.detach(), x.grad, *(p.grad for p in model.parameters()), *model.buffers(), torch.get_rng_state()]


@pytest.mark.parametrize(("name", "kwargs"), MODELS.values(), ids=MODELS)
def test_a_training_step_is_that_of_the_plain_blocks_bit_for_bit(name, kwargs):
    plain = make_model(name, kwargs)
    recomputed = copy.deepcopy(plain)
    recompute_blocks(recomputed)
    assert sum(isinstance(module, Recomputed) for module in recomputed.modules()) >= 4
    assert recomputed.state_dict().keys() == plain.state_dict().keys()
    for found, expected in zip(training_step(recomputed), training_step(plain), strict=True):
        assert torch.equal(found, expected)


def peak(model):
    x = torch.randn(2, 8, 32, 32)
    model(x).sum().backward()  # its gradients are there from now on
    return peak_memory_mib(lambda: model(x).sum().backward(), torch.device("cpu"))


@pytest.mark.slow
def test_the_memory_of_all_blocks_but_one_is_saved_and_comes_back():
    model = nn.Sequential(*(BasicBlock(8, 8) for _ in range(24)))
    plain = peak(model)
    recompute_blocks(model)
    assert peak(model) < 0.4 * plain
    recompute_blocks(model, enable=False)
    assert peak(model) == pytest.approx(plain, rel=0.01)


def test_an_ode_resnet_takes_it_as_an_argument_and_by_timms_switch():
    model = make_model("ode_resnet18", {"recompute": True})
    blocks = [module for module in model.modules() if isinstance(module, Recomputed)]
    assert len(blocks) == 4 and all(block.recompute for block in blocks)
    model.set_grad_checkpointing(False)
    assert not any(block.recompute for block in blocks)
    model.set_grad_checkpointing(True)
    assert all(block.recompute for block in blocks)


@pytest.mark.slow
def test_copies_and_exporters_follow_a_model_with_recomputed_blocks():
    model = make_model("resnet18", {}).eval()
    recompute_blocks(model)
    x = images()
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), expected)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)


def test_other_modules_are_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(InputError, match="Sequential has nothing to recompute: take a model with"):
        recompute_blocks(model)
    recompute_blocks(model, enable=False)
    assert [type(module) for module in model.modules()] == kinds
