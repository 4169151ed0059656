"""ODE-ResNets: what timm asks of a model, the costs and sizes that they claim, variants and errors."""

from math import inf, nan

import pytest
import timm
import torch
from timm.layers import SEModule
from timm.models import FeatureInfo, get_notrace_functions, get_notrace_modules
from timm.models.resnet import BasicBlock
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from odebackbones import change_solver
from odebackbones.block import solver_stats
from odebackbones.errors import InputError
from odebackbones.fields.attention import TimeSqueezeExcite
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.models import ODEResNet
from odebackbones.ode import SolverStats

NAMES = timm.list_models("ode_*", module="ode_resnet")
SMALL = ["ode_resnet18", "ode_resnet50"]
EVALUATIONS = {  # identity blocks of the ResNet, rounded up to midpoint's even numbers
    "ode_resnet18": [2, 2, 2, 2],
    "ode_resnet34": [2, 4, 6, 2],
    "ode_resnet50": [2, 4, 6, 2],
    "ode_resnet101": [2, 4, 22, 2],
    "ode_resnet152": [2, 8, 36, 2],
    "ode_wide_resnet50_2": [2, 4, 6, 2],
    "ode_resnext50_32x4d": [2, 4, 6, 2],
    "ode_seresnet50": [2, 4, 6, 2],
}
COUNTERPARTS = {name: name.removeprefix("ode_") for name in EVALUATIONS}


def images(batch=2, size=64, seed=0, dtype=torch.float32, channels=3):
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def create(name="ode_resnet18", **kwargs):
    """A model whose fields are not zero, so that they matter to its output."""
    torch.manual_seed(0)
    return timm.create_model(name, **{"zero_init_last": False, **kwargs})


def create_skeleton(name, **kwargs):
    """A model without storage: for names, shapes and counts."""
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


def body_parameters(model):
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("fc."))


# What timm asks of every model


def test_timm_lists_the_family():
    assert sorted(NAMES) == sorted(EVALUATIONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_forward_pass_gives_finite_logits(name):
    with torch.inference_mode():
        logits = create(name, num_classes=7).eval()(images())
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_backward_pass_gives_every_parameter_a_gradient(name):
    model = create(name, num_classes=7, bases=2)
    model(images()).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_the_default_configuration_names_the_models_parts(name):
    model = create_skeleton(name)
    cfg, keys = model.default_cfg, set(model.state_dict())
    assert f"{cfg['first_conv']}.weight" in keys and f"{cfg['classifier']}.weight" in keys
    assert model.get_classifier() is model.get_submodule(cfg["classifier"])
    assert model.num_classes == cfg["num_classes"] == 1000
    assert model.num_features == model.head_hidden_size == (512 if name in ("ode_resnet18", "ode_resnet34") else 2048)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_head_agrees_with_the_default_configuration(name):
    model = create(name).eval()
    cfg = model.default_cfg
    with torch.inference_mode():
        x = images(1, cfg["input_size"][-1])
        features = model.forward_features(x)
        pooled = model.forward_head(features, pre_logits=True)
        assert features.shape == (1, model.num_features, *cfg["pool_size"])
        assert pooled.shape == (1, model.head_hidden_size)
        torch.testing.assert_close(pooled, features.mean(dim=(2, 3)))
        model.reset_classifier(0)
        assert model.num_classes == 0
        torch.testing.assert_close(model(x), pooled)
        model.reset_classifier(0, "")
        torch.testing.assert_close(model(x), features)
        model.reset_classifier(5, "avg")
        assert model(x).shape == (1, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_takes_timms_arguments_of_input_and_head(name):
    model = create(name, in_chans=1, num_classes=0, global_pool="").eval()
    with torch.inference_mode():
        assert model(images(1, channels=1)).shape == (1, model.num_features, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_features_only_gives_the_maps_that_feature_info_tells(name):
    model = create(name, features_only=True).eval()
    expansion = 1 if name in ("ode_resnet18", "ode_resnet34") else 4
    assert model.feature_info.reduction() == [2, 4, 8, 16, 32]
    assert model.feature_info.channels() == [64, *(expansion * c for c in (64, 128, 256, 512))]
    with torch.inference_mode():
        maps = model(images(1, 96))
    info = zip(model.feature_info.channels(), model.feature_info.reduction(), strict=True)
    assert [m.shape for m in maps] == [(1, c, 96 // r, 96 // r) for c, r in info]
    assert [name.split(".")[0] for name in solver_stats(model)] == ["layer1", "layer2", "layer3", "layer4"]


@pytest.mark.slow
@pytest.mark.parametrize("kwargs", [{}, {"feature_cls": "getter"}], ids=["list", "getter"])
@pytest.mark.parametrize("name", SMALL)
def test_feature_extraction_equals_the_whole_models_intermediates(name, kwargs):
    extractor, model = create(name, features_only=True, **kwargs).eval(), create(name).eval()
    with torch.inference_mode():
        end, intermediates = model.forward_intermediates(images())
        assert torch.equal(end, model.forward_features(images()))
        assert torch.equal(end, intermediates[-1])
        for mine, expected in zip(extractor(images()), intermediates, strict=True):
            assert torch.equal(mine, expected)
    info = FeatureInfo(model.feature_info, tuple(range(5)))
    assert [m.shape[1] for m in intermediates] == info.channels()
    assert [64 // m.shape[2] for m in intermediates] == info.reduction()


def test_features_can_be_picked():
    model = create(features_only=True, out_indices=(1, 3)).eval()
    with torch.inference_mode():
        assert [m.shape for m in model(images(1))] == [(1, 64, 16, 16), (1, 256, 4, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_fx_follows_a_model(name):
    model = create(name, bases=2).eval()
    tracer = {
        "leaf_modules": get_notrace_modules(),
        "autowrap_functions": get_notrace_functions(),
        "param_shapes_constant": True,
    }
    train_nodes, eval_nodes = get_graph_node_names(model, tracer_kwargs=tracer)
    traced = create_feature_extractor(
        model, train_return_nodes=train_nodes[-1:], eval_return_nodes=eval_nodes[-1:], tracer_kwargs=tracer
    )
    with torch.inference_mode():
        (logits,) = traced(images()).values()
        assert torch.equal(logits, model(images()))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_gradient_checkpointing_changes_the_memory_and_not_the_model(name):
    results = {}
    for enable in (True, False):
        model = create(name, num_classes=7)
        model.set_grad_checkpointing(enable)
        x = images().requires_grad_()
        logits = model(x)
        logits.square().sum().backward()
        results[enable] = (logits.detach(), x.grad, list(model.buffers()))
        assert all((stats.nfe_backward > 0) == enable for stats in solver_stats(model).values())
    assert torch.equal(results[True][0], results[False][0])
    assert torch.equal(results[True][1], results[False][1])
    assert all(torch.equal(a, b) for a, b in zip(results[True][2], results[False][2], strict=True))


def test_gradient_checkpointing_leaves_the_other_modes():
    model = create(solver="leapfrog", gradient="reversible")
    for enable in (True, False):
        model.set_grad_checkpointing(enable)
        assert model.layer1[-1].solver.gradient == "reversible"


def test_weights_of_other_evaluation_times_say_how_to_load_them():
    with pytest.raises(
        RuntimeError, match=r"norm1 has statistics at 6 times, and the weights to load at 2: .*then ode"
    ):
        create(steps=3).load_state_dict(create(steps=1).state_dict())


def test_a_model_is_saved_and_loaded():
    model, other = create(bases=2, num_classes=3).eval(), create(bases=2, num_classes=3).eval()
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.mul_(1.25)
        assert not torch.equal(other(images()), model(images()))
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(images()), model(images()))


# Cost and size


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


# Variants


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


# Errors


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
        ({"duration": ["6", 6, 6, 6]}, r"duration=\['6', 6, 6, 6\]: expected one float"),
        ({"steps": (1, 2, 3)}, r"steps=\(1, 2, 3\): expected one int, or 4"),
        ({"bases": (1, 1)}, r"bases=\(1, 1\): expected one .*, or 4"),
        ({"continuous": (True,) * 5}, r"continuous=\(True, .*\): expected one .*, or 4"),
        ({"steps": 0}, r"steps=0: expected a whole number of at least 1"),
        ({"steps": (1, 2, 3, 1.5)}, r"expected one int, or 4"),
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
