"""Conversion of trained ResNets: the same function, there and back. The witnesses are timm and torchvision."""

import copy
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from odebackbones import InputError, ODEResNet, change_solver, from_resnet, solver_stats, to_resnet

SMALL = {"channels": (8, 16, 24, 32), "num_classes": 5}
MODELS = {
    "timm's basic": lambda: timm.create_model("resnet34", **SMALL),
    "timm's bottleneck": lambda: timm.create_model("resnet50", **SMALL),
    "dilated": lambda: timm.create_model("resnet50", output_stride=8, **SMALL),
    "grouped": lambda: timm.create_model("resnext50_32x4d", num_classes=5),
    "channel attention": lambda: timm.create_model("seresnet18", **SMALL),
    "deep stem, pooled shortcuts": lambda: timm.create_model("resnet26d", num_classes=5),
    "features": lambda: timm.create_model("resnet18", features_only=True, out_indices=(4,), channels=SMALL["channels"]),
    "torchvision's basic": lambda: torchvision.models.resnet18(num_classes=5),
    "torchvision's bottleneck": lambda: torchvision.models.wide_resnet50_2(num_classes=5),
}


def trained(name):
    """A model in which no parameter and no statistic is that of an untrained one."""
    torch.manual_seed(0)
    model = MODELS[name]().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.3, 0.9)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(std=0.2)
    return model.eval()


def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def output(model):
    found = model(images())
    return found[-1] if isinstance(found, list) else found


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_is_the_same_function(name, training):
    model = trained(name).train(training)
    converted = from_resnet(model)
    assert converted.training == training
    torch.testing.assert_close(output(converted), output(model), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_way_back_gives_the_plain_model(name):
    model = trained(name)
    back = to_resnet(from_resnet(model))
    assert list(back.state_dict()) == list(model.state_dict())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(output(back), output(model), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_plain_model(name):
    model, slopes = trained(name).train(), []
    for network in (model, from_resnet(model)):
        x = images().requires_grad_()
        found = network(x)
        (found[-1] if isinstance(found, list) else found).square().sum().backward()
        slopes.append(x.grad)
    torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dilated", "channel attention", "grouped"])
def test_a_model_that_came_back_is_converted_again(name):
    model = trained(name)
    again = from_resnet(to_resnet(from_resnet(model)))
    torch.testing.assert_close(output(again), output(model), rtol=1e-9, atol=1e-9)


def test_drop_path_and_what_is_trained_go_along():
    model = timm.create_model("resnet34", drop_path_rate=0.3, **SMALL)
    rates = [block.drop_path.drop_prob for block in model.layer3[1:]]
    for parameter in model.layer3[2].parameters():
        parameter.requires_grad_(False)
    converted = from_resnet(model)
    field = converted.layer3[1].field
    assert field.drop_path.drop_prob == pytest.approx(sum(rates) / 5)
    assert [weight.requires_grad for weight in field.conv1.weight] == [True, False, True, True, True]
    back = to_resnet(converted)
    assert [block.drop_path.drop_prob for block in back.layer3[1:]] == pytest.approx([sum(rates) / 5] * 5)
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {name: p.requires_grad for name, p in back.named_parameters()} == trained


def test_a_sequential_of_blocks_is_converted_as_it_is():
    model = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4)).eval()
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(to_resnet(from_resnet(model))(x), model(x))


def test_timms_resnet_becomes_an_ode_resnet_and_comes_back_as_timms():
    model = trained("timm's basic")
    converted = from_resnet(model, gradient="backprop")
    assert type(converted) is ODEResNet and type(to_resnet(converted)) is ResNet
    assert {name: s.nfe for name, s in solver_stats(converted).items()} == {
        "layer1.1": 2, "layer2.1": 3, "layer3.1": 5, "layer4.1": 2
    }  # fmt: skip
    converted.set_grad_checkpointing(True)
    assert converted.layer1[1].solver.gradient == "checkpoint"


def test_the_model_that_is_converted_stays_as_it_was():
    model = trained("timm's basic")
    before = copy.deepcopy(model.state_dict())
    from_resnet(model)
    assert type(model) is ResNet and all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_converted_model_takes_other_solvers_and_other_steps_back():
    converted = from_resnet(trained("timm's basic"))
    doubled = change_solver(converted, steps=6)
    back = to_resnet(doubled)
    assert [len(getattr(back, f"layer{i}")) for i in (1, 2, 3, 4)] == [7] * 4
    torch.testing.assert_close(output(back), output(doubled), rtol=1e-9, atol=1e-9)
    assert torch.isfinite(output(change_solver(converted, "midpoint"))).all()


def test_blocks_without_a_relu_after_the_addition_come_of_solves_that_are_not_projected():
    torch.manual_seed(0)
    ode = timm.create_model("ode_resnet18", solver="euler", steps=2, zero_init_last=False, **SMALL).eval()
    x = images().float()
    torch.testing.assert_close(to_resnet(ode)(x), ode(x), rtol=1e-4, atol=1e-5)


def three_updates(model):
    """The logits after three updates with the gradient."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(images()), torch.arange(len(images())) % 3).backward()
        optimizer.step()
    return output(model.eval())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ode_resnet18", "ode_seresnet50"])
def test_with_the_duration_of_its_blocks_a_flow_learns_as_the_resnet_does(name):
    torch.manual_seed(0)
    like_resnet = {"solver": "euler", "projected": True, "steps": 2, "bases": 2, "duration": 2}
    ode = timm.create_model(name, layers=(3, 3, 3, 3), **like_resnet, **SMALL).double().eval()
    resnet = to_resnet(ode)
    assert type(resnet) is ResNet
    assert sum(p.numel() for p in resnet.parameters()) == sum(p.numel() for p in ode.parameters())
    torch.testing.assert_close(three_updates(resnet), three_updates(ode), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: timm.create_model("ecaresnet50t"), "attention EcaModule: a vector field has timm's 'se'"),
        (lambda: timm.create_model("resnet50_gn"), "with GroupNorm cannot be"),
        (
            lambda: timm.create_model("resnet18", drop_block_rate=0.1),
            r"^layer3\.1: an identity block with drop_block cannot",
        ),
        (lambda: timm.create_model("resnet18", act_layer="silu"), "with SiLU cannot be"),
        (lambda: timm.create_model("resnet10t"), "ResNet has no stage of two or more"),
        (lambda: torchvision.models.vgg11(), "VGG has no stage"),
    ],
)
def test_what_can_not_be_converted_is_refused(model, words):
    with torch.device("meta"), pytest.raises(InputError, match=words):
        from_resnet(model())


def uneven_norms():
    model = timm.create_model("resnet34", **SMALL)
    model.layer2[2].bn1.eps = 1e-3
    return model


def test_norms_that_a_field_can_not_have_are_refused():
    with pytest.raises(InputError, match="layer2: its batch norms differ in eps or momentum"):
        from_resnet(uneven_norms())
    cumulative = partial(nn.BatchNorm2d, momentum=None)
    with pytest.raises(InputError, match=r"with BatchNorm2d.*momentum=None"):
        from_resnet(nn.Sequential(*(BasicBlock(4, 4, norm_layer=cumulative) for _ in range(2))))


@pytest.mark.parametrize("argument", ["steps", "grid", "method"])
def test_an_argument_that_would_change_the_function_is_refused(argument):
    with pytest.raises(InputError, match=f"{argument}: from_resnet takes Euler's steps"):
        from_resnet(timm.create_model("resnet34", **SMALL), **{argument: 2})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "midpoint"}, r"expected solver 'euler', got 'midpoint'; call odebackbones\.change_solver"),
        ({"solver": "euler", "augment": 2}, "and augmented state"),
        ({"solver": "euler", "norm": "frozen"}, "that are not frozen"),
        ({"solver": "euler", "time_channel": True}, "without time channel"),
        ({"solver": "euler", "norm": "group", "channels": (32,) * 4}, "with batch norms"),
    ],
)
def test_what_is_no_resnet_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        to_resnet(timm.create_model("ode_resnet18", **{**SMALL, **options}))
    with pytest.raises(InputError, match="Sequential has no ODE block"):
        to_resnet(nn.Sequential(BasicBlock(4, 4)))
