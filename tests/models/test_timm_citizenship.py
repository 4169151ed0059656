"""What timm's own functions ask of every registered model of ours."""

import pytest
import timm
import torch
from timm.models import group_parameters, model_entrypoint
from timm.optim import param_groups_layer_decay
from torch import nn

from odebackbones import InputError, ODEBlock

OURS = sorted(n for n in timm.list_models() if model_entrypoint(n).__module__.startswith("odebackbones"))
SMALL = ["ode_resnet18", "ode_resnet20_cifar", "resnet20_cifar", "odenet_cifar", "lm_resnet50"]
"""One of every class but VGG, whose head is large."""


def create_skeleton(name, **kwargs):
    """A model without storage."""
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


def images(model, batch=1):
    channels, height, width = model.pretrained_cfg["input_size"]
    shape = (batch, channels, min(height, 64), min(width, 64))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [name for name in OURS if name != "mlp_mnist"])  # which has but two layers
def test_every_parameter_belongs_to_a_group_and_layers_learn_at_rates_of_their_own(name):
    model = create_skeleton(name)
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    assert set(groups) == {key for key, _ in model.named_parameters()}
    assert len(set(groups.values())) > 3
    parameters = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.7)
    scales = {id(p): group["lr_scale"] for group in parameters for p in group["params"]}
    assert scales[id(model.get_classifier().weight)] == 1.0 == max(scales.values())
    first = model.get_submodule(model.default_cfg["first_conv"]).weight
    assert scales[id(first)] == min(scales.values()) < 0.5
    assert all(p.ndim > 1 for group in parameters if group["weight_decay"] for p in group["params"])


@pytest.mark.parametrize("name", OURS)
def test_the_classifier_is_replaced_and_removed(name):
    model = create_skeleton(name, num_classes=7)
    assert isinstance(model.get_classifier(), nn.Linear) and model.get_classifier().out_features == 7
    model.reset_classifier(3)
    assert model.get_classifier().out_features == model.num_classes == 3
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)


@pytest.mark.parametrize("name", SMALL)
def test_intermediates_are_taken_and_the_layers_after_them_pruned(name):
    model = timm.create_model(name).eval()
    x = images(model)
    with torch.inference_mode():
        end, every = model.forward_intermediates(x)
        torch.testing.assert_close(end, model.forward_features(x))
        some = model.forward_intermediates(x, indices=[0, 2], intermediates_only=True, stop_early=True)
        for found, expected in zip(some, (every[0], every[2]), strict=True):
            assert torch.equal(found, expected)
        parameters = sum(p.numel() for p in model.parameters())
        assert list(model.prune_intermediate_layers([0, 1], prune_head=True)) == [0, 1]
        assert sum(p.numel() for p in model.parameters()) < parameters
        found = model.forward_intermediates(x, indices=[0, 1], intermediates_only=True)
        assert torch.equal(found[1], every[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_weights_come_from_a_checkpoint_and_from_an_overlay(name, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    file = str(tmp_path / "weights.pth")
    torch.save(model.state_dict(), file)
    overlay = {"file": file, "num_classes": 5}
    for options in ({"checkpoint_path": file}, {"pretrained": True, "pretrained_cfg_overlay": overlay}):
        loaded = timm.create_model(name, num_classes=5, **options).eval()
        with torch.inference_mode():
            assert torch.equal(loaded(images(model)), model(images(model)))


# timm's VGG can't, and two layers have nothing between them
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OURS if name not in ("vgg16_quarter_bn", "mlp_mnist")])
def test_gradient_checkpointing_can_be_switched(name):
    model = create_skeleton(name)
    for enable, mode in ((False, "backprop"), (True, "checkpoint")):
        model.set_grad_checkpointing(enable)
        modes = {module.solver.gradient for module in model.modules() if isinstance(module, ODEBlock)}
        assert modes <= {mode, "reversible"}
        assert modes or model.grad_checkpointing == enable  # a plain ResNet


@pytest.mark.parametrize("name", OURS)
def test_device_and_dtype_hold_for_all_parameters_and_buffers(name):
    model = timm.create_model(name, device="meta", dtype=torch.bfloat16)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert {key for key, tensor in tensors.items() if tensor.device.type != "meta"} == set()
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.bfloat16}


@pytest.mark.parametrize("name", [*SMALL, "ode_vgg11", "mlp_mnist"])
@pytest.mark.parametrize("in_chans", [0, -1, 1.5, True])
def test_images_without_channels_are_refused(name, in_chans):
    with pytest.raises(InputError, match=rf"in_chans={in_chans}: expected a whole number of at least 1"):
        create_skeleton(name, in_chans=in_chans)


def test_an_unknown_argument_is_refused_with_a_few_that_are_near():
    with pytest.raises(InputError) as refused:
        create_skeleton("ode_resnet18", xyz=1)
    assert "unknown argument 'xyz'; the nearest of " in str(refused.value)
    assert str(refused.value).count(",") == 4
