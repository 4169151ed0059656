"""The control without any step: what is left is the network without the blocks that the flows replace."""

import pytest
import timm
import torch

import odebackbones
from odebackbones.block import has_ode_blocks
from odebackbones.errors import InputError
from odebackbones.models.stage_options import makes_no_step


def perturbed(model):
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.05 * torch.rand_like(tensor))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "plain", "arguments"),
    [
        ("ode_resnet34", "resnet34", {"layers": (1, 1, 1, 1)}),
        ("ode_resnet50", "resnet50", {"layers": (1, 1, 1, 1)}),
        ("ode_resnet56_cifar", "resnet56_cifar", {"blocks": 1}),
    ],
)
def test_without_steps_it_is_the_resnet_of_one_block_a_stage(name, plain, arguments):
    control = perturbed(timm.create_model(name, steps=0, num_classes=7))
    reference = timm.create_model(plain, num_classes=7, **arguments).eval()
    reference.load_state_dict(control.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(control(images), reference(images)) and not has_ode_blocks(control)


@pytest.mark.parametrize("name", ["ode_vgg16_bn", "odenet_cifar", "lm_resnet50"])
def test_other_models_lose_their_flows_alone(name):
    options = {"num_classes": 7, **({"channels": 32} if name == "odenet_cifar" else {})}
    full, control = timm.create_model(name, **options), timm.create_model(name, steps=0, **options)
    kept = [tensor.numel() for key, tensor in full.state_dict().items() if not {"field", "method"} & {*key.split(".")}]
    assert [tensor.numel() for tensor in control.state_dict().values()] == kept
    assert has_ode_blocks(full) and not has_ode_blocks(control)
    size = control.pretrained_cfg["input_size"]
    assert control.eval()(torch.randn(2, *size)).shape == (2, 7)


def test_the_features_of_a_vgg_without_steps_have_every_stride():
    body = timm.create_model("ode_vgg16_bn", steps=0, features_only=True)
    shapes = [tuple(level.shape[1:]) for level in body.eval()(torch.randn(1, 3, 64, 64))]
    assert shapes == [(c, s, s) for c, s in ((64, 64), (128, 32), (256, 16), (512, 8), (512, 4), (512, 2))]


def test_some_stages_can_be_without_steps_and_are_saved_so(tmp_path):
    model = perturbed(timm.create_model("ode_resnet34", steps=[0, 3, 0, 2], num_classes=7))
    assert [block is not None for block in model.ode_blocks_by_stage()] == [False, True, False, True]
    odebackbones.save_pretrained(model, tmp_path / "model")
    again = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(images), model(images))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"solver": "nonsense"}, "nonsense"),
        ({"gradient": "nope"}, "nope"),
        ({"augment": -1}, "augment"),
        ({"basis": "nope"}, "nope"),
        ({"bases": -3}, "bases"),
        ({"budgets": [1, 2]}, "not all stages have a flow"),
    ],
)
def test_wrong_arguments_are_refused_without_steps_too(arguments, error):
    with pytest.raises(InputError, match=error):
        timm.create_model("ode_resnet18", steps=0, **arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"steps": 0}, True),
        ({"steps": [0, 0, 0, 0]}, True),
        ({"steps": [0, 1, 1, 1], "continuous": [True, False, False, False]}, True),
        ({"steps": 0, "continuous": False}, False),
        ({"steps": [0, 1, 0, 0]}, False),
        ({"continuous": False}, False),
        ({}, False),
    ],
)
def test_the_control_is_a_model_whose_flows_make_no_step(arguments, expected):
    assert makes_no_step(arguments) == expected


@pytest.mark.parametrize("steps", [-1, [1, -1, 1, 1]])
def test_steps_below_zero_are_refused(steps):
    with pytest.raises(InputError, match=r"expected whole numbers of at least 1, or 0 to leave the flows out"):
        timm.create_model("ode_resnet18", steps=steps)
