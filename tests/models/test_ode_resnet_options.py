"""Options of the ODE-ResNets: what they change, and what is refused."""

from math import inf, nan

import pytest
import timm
import torch
from small_ode_resnets import COUNTERPARTS, EVALUATIONS, NAMES, SMALL, create, create_skeleton, images
from timm.layers import SEModule
from timm.models.resnet import BasicBlock
from torch import nn

from odebackbones import change_solver
from odebackbones.block import solver_stats
from odebackbones.errors import InputError
from odebackbones.fields.attention import TimeSqueezeExcite
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.models import ODEResNet
from odebackbones.ode import SolverStats


def body_parameters(model):
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("fc."))


@pytest.mark.parametrize("name", NAMES)
def test_the_default_evaluations_are_the_blocks_replaced(name):
    stats = solver_stats(create_skeleton(name))
    assert list(stats) == [f"layer{i}.1" for i in (1, 2, 3, 4)]
    assert [s.nfe for s in stats.values()] == EVALUATIONS[name]
    assert list(stats.values()) == [SolverStats(n, n, n // 2) for n in EVALUATIONS[name]]


def test_solver_steps_and_gradient_reach_every_block():
    stats = solver_stats(create_skeleton("ode_resnet18", solver="rk4", steps=(1, 2, 3, 4), gradient="backprop"))
    assert list(stats.values()) == [SolverStats(4 * n, 0, n) for n in (1, 2, 3, 4)]
    stats = solver_stats(create_skeleton("ode_resnet50", solver="euler"))
    assert [s.steps for s in stats.values()] == [2, 3, 5, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "counterpart"), COUNTERPARTS.items())
def test_a_stage_holds_two_blocks_worth_of_parameters(name, counterpart):
    ode, resnet = create_skeleton(name), create_skeleton(counterpart)
    for i in (1, 2, 3, 4):
        mine, theirs = ode.get_submodule(f"layer{i}"), resnet.get_submodule(f"layer{i}")
        assert len(mine) == 2
        assert [p.numel() for p in mine[0].parameters()] == [p.numel() for p in theirs[0].parameters()]
        assert sum(p.numel() for p in mine[1].parameters()) == sum(p.numel() for p in theirs[1].parameters())


def test_ode_resnet101_has_a_third_of_resnet101s_parameters():
    ratio = body_parameters(create_skeleton("ode_resnet101")) / body_parameters(create_skeleton("resnet101"))
    assert 0.3 < ratio < 0.4
    assert body_parameters(create_skeleton("ode_resnet101")) == body_parameters(create_skeleton("ode_resnet50"))


def test_with_only_stage_3_continuous_ode_resnet101_has_19_million_parameters():
    model = create_skeleton("ode_resnet101", continuous=(False, False, True, False))
    resnet = create_skeleton("resnet101")
    assert body_parameters(model) == pytest.approx(19.0e6, abs=0.1e6)
    assert list(solver_stats(model)) == ["layer3.1"]
    for layer in ("layer1", "layer2", "layer4"):
        keys = {key: p.shape for key, p in model.get_submodule(layer).named_parameters()}
        assert keys == {key: p.shape for key, p in resnet.get_submodule(layer).named_parameters()}


def test_without_continuous_stages_it_is_timms_resnet():
    ours, theirs = create(continuous=False).eval(), create("resnet18").eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        assert torch.equal(ours(images()), theirs(images()))


def test_bases_multiply_the_parameters_of_the_fields_alone():
    one, two = create_skeleton("ode_resnet50"), create_skeleton("ode_resnet50", bases=(1, 2, 2, 2))
    for i, factor in zip((1, 2, 3, 4), (1, 2, 2, 2), strict=True):
        counts = [sum(p.numel() for p in m.get_submodule(f"layer{i}.1").parameters()) for m in (one, two)]
        assert counts[1] == factor * counts[0]
        counts = [sum(p.numel() for p in m.get_submodule(f"layer{i}.0").parameters()) for m in (one, two)]
        assert counts[1] == counts[0]


@pytest.mark.parametrize("name", SMALL)
def test_output_stride_16_keeps_the_last_stage_at_stride_16(name):
    model = create(name, features_only=True, output_stride=16).eval()
    assert model.feature_info.reduction() == [2, 4, 8, 16, 16]
    with torch.inference_mode():
        assert [m.shape[-1] for m in model(images(1, 96))] == [48, 24, 12, 6, 6]


@pytest.mark.parametrize("name", SMALL)
def test_a_group_norm_model_judges_each_image_by_itself(name):
    model = create(name, norm="group", num_classes=7).train()
    assert not any("running" in key for key in model.state_dict())
    torch.testing.assert_close(model(images(3))[:1], model(images(3)[:1]), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_training_a_frozen_model_changes_no_normalization(name):
    model = create(name, norm="frozen", num_classes=7).train()
    norms = {key: value.clone() for key, value in model.state_dict().items() if "bn" in key or "norm" in key}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    model(images()).square().sum().backward()
    optimizer.step()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert sum("running_mean" in key for key in norms) > 8
    assert all(torch.equal(model.state_dict()[key], value) for key, value in norms.items())
    assert all(p.grad.abs().max() > 0 for key, p in model.named_parameters() if p.requires_grad)
    assert {key for key, p in model.named_parameters() if not p.requires_grad} == {
        f"{key}.{kind}.0"
        for key, m in model.named_modules()
        if isinstance(m, TimeBatchNorm2d)
        for kind in ("weight", "bias")
    }


def warmed_up(**kwargs):
    """A model whose running statistics are those of some images."""
    model = create(num_classes=7, **kwargs).train()
    with torch.no_grad():
        for seed in range(3):
            model(images(4, seed=seed))
    return model.eval()


@pytest.mark.slow
def test_weights_go_from_batch_to_frozen_and_back():
    batch, frozen = warmed_up(), create(norm="frozen", num_classes=7).train()
    frozen.load_state_dict(batch.state_dict())
    with torch.inference_mode():
        expected = batch(images())
        torch.testing.assert_close(frozen(images()), expected)
        other = create(num_classes=7).eval()
        assert not torch.allclose(other(images()), expected, rtol=1e-2)
        other.load_state_dict(frozen.state_dict())
        torch.testing.assert_close(other(images()), expected)


def test_a_new_model_starts_at_its_discrete_half():
    model = create(zero_init_last=True).eval()
    x = images()
    with torch.inference_mode():
        expected = model(x)
        for i in (1, 2, 3, 4):
            del model.get_submodule(f"layer{i}")[1]
        assert torch.equal(model(x), expected)


def test_drop_path_grows_with_depth_and_is_the_mean_of_the_blocks_replaced():
    rates = [0.3 * i / 15 for i in range(16)]
    ode, resnet = (create_skeleton(name, drop_path_rate=0.3) for name in ("ode_resnet34", "resnet34"))
    replaced = [rates[1:3], rates[4:7], rates[8:13], rates[14:16]]
    for i, expected in enumerate(replaced, start=1):
        discrete, flow = ode.get_submodule(f"layer{i}")
        counterpart = resnet.get_submodule(f"layer{i}")[0].drop_path
        assert discrete.drop_path.drop_prob == pytest.approx(counterpart.drop_prob if i > 1 else 0.0)
        assert flow.field.drop_path.drop_prob == pytest.approx(sum(expected) / len(expected))


def test_drop_path_leaves_images_as_they_came_in_training_only():
    block = create(drop_path_rate=0.99, num_classes=2, solver="euler", steps=1).layer4[1].train()
    x = torch.randn(64, 512, 2, 2)
    torch.manual_seed(0)
    kept = (block(x) == x).flatten(1).all(dim=1)
    assert 32 < kept.sum() < 64
    assert not (block.eval()(x) == x).flatten(1).all(dim=1).any()


@pytest.mark.parametrize("solver", ["dopri5", "bosh3"])
def test_a_solver_that_finds_its_steps_takes_no_drop_path(solver):
    with pytest.raises(InputError, match=rf"layer1: {solver!r} finds its own steps, .*drop_path_rate"):
        create_skeleton("ode_resnet18", solver=solver, drop_path_rate=0.1)
    with pytest.raises(InputError, match=f"layer1: {solver!r} finds its own steps"):
        change_solver(create("ode_resnet18", drop_path_rate=0.1), solver)


def test_channel_attention_is_timms_at_every_time():
    torch.manual_seed(0)
    module = SEModule(32).eval()
    ours, x = TimeSqueezeExcite(32, module.fc1.out_channels, bases=2), torch.randn(2, 32, 5, 5)
    for name in ("fc1", "fc2"):
        ours.get_submodule(name).weight[1].data.copy_(module.get_submodule(name).weight)
        ours.get_submodule(name).bias[1].data.copy_(module.get_submodule(name).bias)
    torch.testing.assert_close(ours(x, 0.7), module(x))
    assert not torch.allclose(ours(x, 0.3), module(x))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"norm": "bach"}, r"unknown norm 'bach'; did you mean 'batch'\?"),
        ({"solver": "ruler"}, r"unknown solver 'ruler'; did you mean 'euler'\?"),
        ({"solver": "ruler", "steps": 2}, r"unknown solver 'ruler'; did you mean 'euler'\?"),
        ({"solver": "RK4"}, r"unknown solver 'RK4'; did you mean 'rk4'"),
        ({"step": 2}, r"unknown argument 'step'; did you mean 'steps'"),
        ({"gradient": "adjoin"}, r"unknown gradient mode 'adjoin'; did you mean 'adjoint'\?"),
        *(({"duration": each}, rf"duration={each}: expected finite times above 0") for each in (0.0, inf, nan)),
        ({"duration": [1, None, 1, 1]}, r"expected finite times above 0"),
        ({"duration": ["6", 6, 6, 6]}, r"duration=\['6', 6, 6, 6\]: expected one number"),
        ({"steps": (1, 2, 3)}, r"steps=\(1, 2, 3\): expected one whole number, or a list of 4"),
        ({"bases": (1, 1)}, r"bases=\(1, 1\): expected one .*, or a list of 4"),
        ({"continuous": (True,) * 5}, r"continuous=\(True, .*\): expected one .*, or a list of 4"),
        ({"steps": -1}, r"steps=-1: expected whole numbers of at least 1, or 0"),
        ({"steps": (1, 2, 3, 1.5)}, r"expected one whole number, or a list of 4"),
        ({"bases": 3, "steps": 1}, r"bases=3: the solver evaluates at 2 times"),
        ({"bases": (1, 1, 9, 1), "solver": "euler", "steps": 4}, r"bases=9: .*take 1 <= bases <= 4 or more steps"),
        ({"bases": 0}, r"bases=0: "),
        ({"augment": "2"}, r"augment='2': expected a whole number of channels"),
        ({"augment": -99}, r"augment=-99: expected a whole number of channels, 0 or more"),
        ({"augment": -1}, r"augment=-1: expected a whole number of channels, 0 or more"),
        ({"drop_path_rate": 1.5}, r"drop_path_rate=1\.5: expected a probability from 0 to below 1"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_argument_is_refused_by_name(kwargs, message):
    with pytest.raises(InputError, match=message):
        create_skeleton("ode_resnet18", **kwargs)


def test_a_foreign_block_is_refused():
    class Block(BasicBlock):
        pass

    class Foreign(nn.Module):
        expansion = 1

        def __init__(self, inplanes, planes, *args, **kwargs):
            super().__init__()
            self.conv = nn.Conv2d(inplanes, planes, 1)

    assert ODEResNet(Block, (2, 2, 2, 2), channels=(16, 16, 32, 32)).layer1[1].stats().nfe == 2
    with pytest.raises(InputError, match=r"block=Foreign: expected timm's BasicBlock or Bottleneck"):
        ODEResNet(Foreign, (2, 2, 2, 2), channels=(16, 16, 32, 32))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("act_layer", "silu"),
        ("block_args", {"attn_layer": "eca"}),
        ("drop_block_rate", 0.1),
        ("norm_layer", "groupnorm"),
    ],
)
def test_options_of_the_blocks_that_the_fields_lack_are_refused(option, value):
    with pytest.raises(InputError, match=option):
        timm.create_model("ode_resnet18", **{option: value})


@pytest.mark.parametrize(("option", "value"), [("steps", 2.5), ("bases", (1, 1.5, 1, 1)), ("continuous", "yes!")])
def test_values_of_another_kind_are_refused(option, value):
    with pytest.raises(InputError, match=option):
        timm.create_model("ode_resnet18", **{option: value})


def test_frozen_fields_are_not_zero():
    model = timm.create_model("ode_resnet18", norm="frozen", num_classes=2)
    x = torch.randn(1, 64, 8, 8)
    assert not torch.equal(model.layer1[1](x), x)
