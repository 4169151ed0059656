"""The ResNet inside an ODE-ResNet: N bases and N Euler steps are timm's N identity blocks.

The witness is timm's ResNet without the ReLU after the addition of its identity blocks. An Euler step is 1 / N long,
so the last norm's gain and offset are N times as large in the field.
"""

import pytest
import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from odebackbones.models import ODEResNet

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}
LAST_NORM = {BasicBlock: "bn2", Bottleneck: "bn3"}
LAST_ACTIVATION = {BasicBlock: "act2", Bottleneck: "act3"}
LAYERS, CHANNELS = (2, 3, 5, 2), (16, 16, 32, 32)
STEPS = {f"layer{i + 1}": blocks - 1 for i, blocks in enumerate(LAYERS)}
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}


def images():
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def resnet_without_last_activations(block, **kwargs):
    """timm's ResNet whose identity blocks end with the addition, every parameter and statistic at random."""
    torch.manual_seed(0)
    model = ResNet(block, LAYERS, channels=CHANNELS, num_classes=5, **kwargs).double()
    for layer in STEPS:
        for identity_block in model.get_submodule(layer)[1:]:
            setattr(identity_block, LAST_ACTIVATION[block], nn.Identity())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(std=0.2)
    return model


def ode_entry(key, block):
    """Where an entry of the ResNet stands in the ODE-ResNet: its name there, and its factor."""
    layer, _, rest = key.partition(".")
    index, _, entry = rest.partition(".")
    if layer not in STEPS or index == "0":
        return key, 1
    module, kind = entry.split(".")
    k = int(index) - 1
    name = f"{layer}.1.field.{module.replace('bn', 'norm')}"
    if kind in ("weight", "bias"):
        return f"{name}.{kind}.{k}", STEPS[layer] if module == LAST_NORM[block] else 1
    return f"{name}.norms.{k}.{kind}", 1


def as_ode_state(resnet, ode, block):
    """The state dict of ``ode`` with the parameters and statistics of ``resnet``."""
    converted = {key: value.clone() for key, value in ode.state_dict().items()}
    for key, value in resnet.state_dict().items():
        name, factor = ode_entry(key, block)
        converted[name] = value * factor
    return converted


def resnet_and_its_ode(block, **kwargs):
    resnet = resnet_without_last_activations(block, **kwargs)
    steps = tuple(STEPS.values())
    kwargs = {"channels": CHANNELS, "num_classes": 5, **kwargs}
    ode = ODEResNet(block, LAYERS, solver="euler", steps=steps, bases=steps, **kwargs).double()
    ode.load_state_dict(as_ode_state(resnet, ode, block))
    return resnet, ode


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    ("block", "kwargs"),
    [
        ("basic", {}),
        ("bottleneck", {}),
        ("basic", {"output_stride": 16}),
        ("bottleneck", {"output_stride": 16}),
        ("bottleneck", {"cardinality": 2}),
    ],
    ids=["basic", "bottleneck", "basic-dilated", "bottleneck-dilated", "bottleneck-grouped"],
)
def test_euler_with_a_basis_a_step_is_the_resnet(block, kwargs, training):
    block = BLOCKS[block]
    resnet, ode = (model.train(training) for model in resnet_and_its_ode(block, **kwargs))
    means = [buffer.clone() for key, buffer in ode.named_buffers() if "norm1" in key and "mean" in key]
    expected, features = (model.forward_intermediates(images())[1] for model in (resnet, ode))
    assert len(features) == 5
    for mine, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)
    mirrored = as_ode_state(resnet, ode, block)
    for key, value in ode.state_dict().items():
        torch.testing.assert_close(value, mirrored[key], **TOLERANCE)
    now = [buffer for key, buffer in ode.named_buffers() if "norm1" in key and "mean" in key]
    assert all(torch.equal(old, new) != training for old, new in zip(means, now, strict=True))


@pytest.mark.parametrize("block", BLOCKS)
def test_the_resnet_inside_has_the_resnets_logits_and_gradients(block):
    resnet, ode = resnet_and_its_ode(BLOCKS[block])
    logits = [model(images()) for model in (resnet, ode)]
    torch.testing.assert_close(*logits, **TOLERANCE)
    for output in logits:
        output.square().sum().backward()
    for key, parameter in resnet.named_parameters():
        name, factor = ode_entry(key, BLOCKS[block])
        torch.testing.assert_close(ode.get_parameter(name).grad * factor, parameter.grad, rtol=1e-8, atol=1e-8)
