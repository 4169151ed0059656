"""ODE-VGGs: what timm asks of a model, costs and sizes, fields and errors. The witness is timm's VGG."""

import pytest
import timm
import torch
from timm.models import FeatureInfo, get_notrace_functions, get_notrace_modules
from timm.models.vgg import VGG
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from engine.measure.profile import count_macs, peak_memory_mib
from odebackbones import InputError, ODEBlock, fuse, solver_stats
from odebackbones.models import ODEVGG
from odebackbones.models.recompute import RecomputedLayers

NAMES = timm.list_models("ode_vgg??*", exclude_filters="*quarter*")
EVALUATIONS = {  # twice the convolutions beyond a stage's first, and at least 4, in the stages that flow
    "ode_vgg11": [4, 4, 4],
    "ode_vgg13": [4, 4, 4, 4],
    "ode_vgg16": [4, 4, 4, 4],
    "ode_vgg19": [4, 6, 6, 6],
}
CONV_EVALUATIONS = {"ode_vgg11": [1, 1, 1], "ode_vgg13": [1] * 4, "ode_vgg16": [1, 2, 2, 2], "ode_vgg19": [1, 3, 3, 3]}
CHANNELS = [64, 128, 256, 512, 512, 512]
SMALL = [8, 8, "M", 16, "M", 16, 16, 16, "M"]
FIELDS = ["bottleneck", "conv", "depthwise"]


def images(size=32, batch=2, seed=0):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def create(**kwargs):
    """A small model whose fields are not zero, so that they matter to its output."""
    torch.manual_seed(0)
    return ODEVGG(
        SMALL,
        **{"continuous": True, "mlp_ratio": 0.01, "num_classes": 5, "zero_init_last": False, "norm": "batch", **kwargs},
    )


def create_skeleton(name, **kwargs):
    """A model without storage: for names, shapes and counts."""
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


def warmed_up(**kwargs):
    model = create(**kwargs).train()
    with torch.no_grad():
        for seed in range(3):
            model(images(batch=8, seed=seed))
    return model.eval()


def test_timm_lists_the_family():
    assert sorted(NAMES) == sorted(f"{name}{norm}" for name in EVALUATIONS for norm in ("", "_bn"))


@pytest.mark.parametrize("name", NAMES)
def test_the_default_evaluations_are_those_of_the_convolutions_beyond_a_stages_first(name):
    for kwargs, expected in (({}, EVALUATIONS), ({"solver": "euler", "field": "conv"}, CONV_EVALUATIONS)):
        stats = solver_stats(create_skeleton(name, **kwargs))
        assert [s.nfe for s in stats.values()] == expected[name.removesuffix("_bn")]


def kept_channels(model):
    """Those of the convolutions that are not replaced."""
    layers = [layer for stage in model.features if isinstance(stage, nn.Sequential) for layer in stage]
    return [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]


def test_the_first_stage_is_vggs_and_the_fifth_needs_no_convolution_to_bring_its_channels():
    ours = create_skeleton("ode_vgg16_bn")
    assert kept_channels(ours) == [64, 64, 128, 256, 512]
    whole = create_skeleton("ode_vgg16_bn", continuous=True)
    assert kept_channels(whole) == [64, 128, 256, 512]


def test_the_quarter_has_a_quarter_of_the_channels_in_both():
    for name in ("vgg16_quarter_bn", "ode_vgg16_quarter_bn"):
        body = create_skeleton(name, features_only=True)
        assert [4 * channels for channels in body.feature_info.channels()] == CHANNELS
    ours, theirs = (create_skeleton(n) for n in ("ode_vgg16_quarter_bn", "ode_vgg16_bn"))
    assert [s.nfe for s in solver_stats(ours).values()] == [s.nfe for s in solver_stats(theirs).values()]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_channels_and_strides_of_timms(name):
    ours, theirs = (create_skeleton(n, features_only=True) for n in (name, name.removeprefix("ode_")))
    assert ours.feature_info.channels() == theirs.feature_info.channels() == CHANNELS
    assert ours.feature_info.reduction() == theirs.feature_info.reduction() == [1, 2, 4, 8, 16, 32]
    with torch.device("meta"):
        assert [m.shape for m in ours(images())] == [(2, c, 32 // 2**i, 32 // 2**i) for i, c in enumerate(CHANNELS)]


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_timms_and_the_default_configuration_names_the_parts(name):
    ours, theirs = create_skeleton(name), create_skeleton(name.removeprefix("ode_"))
    heads = [
        {key: value.shape for key, value in model.state_dict().items() if not key.startswith("features")}
        for model in (ours, theirs)
    ]
    assert heads[0] == heads[1]
    assert ours.get_classifier() is ours.get_submodule(ours.default_cfg["classifier"])
    assert isinstance(ours.get_submodule(ours.default_cfg["first_conv"]), nn.Conv2d)


def body(model):
    return sum(p.numel() for name, p in model.named_parameters() if name.startswith("features"))


def test_ode_vgg16_has_a_sixth_of_vgg16s_body():
    vgg16 = body(create_skeleton("vgg16_bn"))
    ratios = {field: body(create_skeleton("ode_vgg16_bn", field=field)) / vgg16 for field in FIELDS}
    assert ratios == pytest.approx({"bottleneck": 0.15, "conv": 0.48, "depthwise": 0.15}, abs=0.01)


def test_without_continuous_stages_it_is_timms_vgg():
    ours = create(continuous=False).eval()
    theirs = VGG(SMALL, norm_layer=nn.BatchNorm2d, mlp_ratio=0.01, num_classes=5).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    with torch.inference_mode():
        assert torch.equal(ours(images()), theirs(images()))


@pytest.mark.parametrize("norm", ["batch", "group", "frozen", "none"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_model_learns_with_every_field_and_norm(field, norm):
    torch.manual_seed(0)
    model = ODEVGG(
        [128, 128, "M"],
        continuous=True,
        field=field,
        norm=norm,
        bases=2,
        mlp_ratio=0.01,
        num_classes=5,
        zero_init_last=False,
    )
    model.train()
    model(images()).square().sum().backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    assert all(p.requires_grad for p in model.parameters()) == (norm != "frozen")


@pytest.mark.parametrize("field", FIELDS)
def test_a_fused_model_is_the_same_function(field):
    model = warmed_up(field=field, bases=2, solver="midpoint", steps=2, time_channel=True)
    with torch.inference_mode():
        expected = model(images())
        assert not torch.allclose(create(field=field).eval()(images()), expected, rtol=1e-2)
        torch.testing.assert_close(fuse(model)(images()), expected, rtol=1e-4, atol=1e-5)


def test_a_field_is_a_convolution_after_a_relu_and_may_fall():
    block = warmed_up(field="conv", steps=1, solver="euler").features[1]
    x = images()[:, :1].repeat(1, 8, 1, 1)
    field = block.field
    conv, norm = field.conv1.at(0.0), field.norm1.at(0.0).eval()
    slope = norm(conv(x.relu()))
    torch.testing.assert_close(block(x), x + slope)
    assert (slope < 0).any()


@pytest.mark.parametrize("field", FIELDS)
def test_a_slope_is_of_its_states_size_without_norms(field):
    torch.manual_seed(0)
    block = ODEVGG(
        [256, 256, "M"], continuous=True, field=field, norm="none", zero_init_last=False, mlp_ratio=0.01
    ).ode_blocks_by_stage()[0]
    x = torch.randn(2, 256, 16, 16).relu()
    slope = block.field(0.0, x)
    assert 0.2 < slope.std() / x.std() < 3


def test_a_new_model_starts_at_its_discrete_half():
    model = create(zero_init_last=True).eval()
    expected = model(images())
    model.features = nn.Sequential(*(layer for layer in model.features if not isinstance(layer, ODEBlock)))
    assert torch.equal(model(images()), expected)


@pytest.mark.parametrize("field", FIELDS)
def test_intermediates_are_those_of_the_feature_extractors(field):
    model = create(field=field).eval()
    names = FeatureInfo(model.feature_info, (0, 1, 2, 3)).module_name()
    with torch.inference_mode():
        end, intermediates = model.forward_intermediates(images())
        tracer = {"leaf_modules": get_notrace_modules(), "autowrap_functions": get_notrace_functions()}
        traced = create_feature_extractor(model, {name: name for name in names}, tracer_kwargs=tracer)(images())
        for mine, expected in zip(intermediates, traced.values(), strict=True):
            assert torch.equal(mine, expected)
        assert torch.equal(end, model.forward_features(images()))
        assert [len(m) for m in (model.features, intermediates)] == [7, 4]
        model.prune_intermediate_layers([0, 1])
        assert torch.equal(model.forward_intermediates(images(), [0, 1], intermediates_only=True)[1], intermediates[1])


def test_gradient_checkpointing_changes_the_memory_and_not_the_model():
    results = []
    for enable in (True, False):
        model, x = create(), images().requires_grad_()
        model.set_grad_checkpointing(enable)
        model(x).square().sum().backward()
        results.append(x.grad)
        assert all((s.nfe_backward > 0) == enable for s in solver_stats(model).values())
    assert torch.equal(*results)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_convolutions_that_are_evaluated_again_change_the_memory_and_nothing_else(norm):
    steps, peaks = [], []
    large = images(128)
    for recompute in (False, True):
        model, x = create(norm=norm, recompute=recompute).train(), images().requires_grad_()
        model(x).square().sum().backward()
        steps.append([x.grad, *(p.grad for p in model.parameters()), *model.buffers()])
        body = ODEVGG([8, 8, "M", 64, 64, "M"], norm=norm, recompute=recompute, mlp_ratio=0.01).features
        body(large).sum().backward()  # its gradients are there from now on
        peaks.append(peak_memory_mib(lambda body=body: body(large).sum().backward(), torch.device("cpu")))
    assert all(torch.equal(*pair) for pair in zip(*steps, strict=True))
    one = large[:, :1].repeat(1, 8, 1, 1).nbytes / 2**20
    assert peaks[0] - peaks[1] >= 0.9 * one


def test_convolutions_are_evaluated_again_where_the_odes_are():
    for kwargs, expected in (({}, True), ({"gradient": "backprop"}, False), ({"recompute": False}, False)):
        layers = create(**kwargs).features[0]
        assert isinstance(layers, RecomputedLayers)
        assert layers.recompute == expected


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"field": "botleneck"}, r"unknown field 'botleneck'; did you mean 'bottleneck'"),
        ({"norm": "layer"}, r"unknown norm 'layer'; known: batch, frozen, group, none"),
        ({"step": 2}, r"unknown argument 'step'; did you mean 'steps'"),
        ({"norm_layer": "batchnorm"}, r"norm_layer: not an option of an ODE-VGG"),
        ({"act_layer": nn.GELU}, r"act_layer: not an option of an ODE-VGG"),
        ({"steps": (1, 2, 3, 4)}, r"steps=\(1, 2, 3, 4\): expected one whole number, or a list of 5"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(kwargs, message):
    with pytest.raises(InputError, match=message):
        create_skeleton("ode_vgg16", **kwargs)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_multiplications_of_a_flow_can_be_counted(norm):
    with torch.inference_mode():
        body = ODEVGG([256, 256, "M"], continuous=True, norm=norm, mlp_ratio=0.01).eval().features
        macs, _ = count_macs(body, lambda: body(images(16, batch=1)))
    evaluation = 2 * 256 * 64 + 9 * 64**2  # 1x1 to a quarter, 3x3, 1x1 back
    assert macs == pytest.approx((9 * 3 * 256 + 4 * evaluation) * 16**2 / 1e9)
