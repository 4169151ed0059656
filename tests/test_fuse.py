"""Fused models: the outputs of the original, without its norms."""

import copy

import pytest
import timm
import torch
from torch import nn

import odebackbones
from odebackbones.errors import InputError
from odebackbones.fields.affine import TimeNorm
from odebackbones.inference.fused_field import FusedConv2d
from odebackbones.inference.prepack import PackedConv2d

WIDTHS = {"channels": (8, 16, 24, 32)}  # timm's argument: small stages

MODELS = {
    "basic blocks": ("ode_resnet18", WIDTHS),
    "bottlenecks": ("ode_resnet50", WIDTHS),
    "weights over time": ("ode_resnet18", {**WIDTHS, "solver": "euler", "steps": 2, "bases": 2}),
    "time channels": ("ode_resnet18", {**WIDTHS, "time_channel": True}),
    "frozen norms": ("ode_resnet18", {**WIDTHS, "norm": "frozen"}),
    "group norms": ("ode_resnet18", {"norm": "group", "channels": (32, 32, 32, 32)}),
    "rk4": ("ode_resnet18", {**WIDTHS, "solver": "rk4", "steps": 1}),
    "leapfrog on a reversible state": ("ode_resnet18", {**WIDTHS, "solver": "leapfrog", "gradient": "reversible"}),
    "augmented": ("ode_resnet18", {**WIDTHS, "augment": 3}),
    "groups": ("ode_resnet50", {"channels": (16, 32, 48, 64), "cardinality": 2, "base_width": 32}),
    "longer flows with attention": ("ode_seresnet50", {**WIDTHS, "duration": 3}),
    "a deep stem": ("ode_resnet18", {**WIDTHS, "stem_type": "deep", "stem_width": 8}),
    "a discrete ResNet": ("resnet18", WIDTHS),
}

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


def make_model(name, **kwargs):
    """A model whose weights, gains and statistics are not those of an untrained one."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, zero_init_last=False, **kwargs)
    with torch.no_grad():
        for module in model.modules():
            for key in ("weight", "bias"):
                values = getattr(module, key, None)
                if isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and values is not None:
                    values.add_(0.3 * torch.randn_like(values))
                elif isinstance(module, TimeNorm):
                    for value in values:
                        value.add_(0.3 * torch.randn_like(value))
        for seed in range(3):
            model.train()(images(seed=seed))
    return model.eval()


def images(batch=4, size=(48, 64), seed=9):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def assert_equal_to_1e_5(found, expected):
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kwargs"), MODELS.values(), ids=MODELS)
def test_a_fused_model_gives_the_logits_of_the_original(name, kwargs):
    model = make_model(name, **kwargs)
    before = copy.deepcopy(model.state_dict())
    fused = odebackbones.fuse(model)
    with torch.no_grad():
        for size in ((48, 64), (33, 40)):
            assert_equal_to_1e_5(fused(images(size=size)), model(images(size=size)))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.slow
@needs_onednn
@pytest.mark.parametrize(("name", "kwargs"), MODELS.values(), ids=MODELS)
def test_a_prepacked_model_gives_the_logits_of_the_original_at_every_size(name, kwargs):
    model = make_model(name, **kwargs)
    packed = odebackbones.fuse(model, prepack=True)
    assert any(isinstance(module, PackedConv2d) for module in packed.modules())
    with torch.inference_mode():
        for size in ((48, 64), (33, 40), (48, 64)):
            assert_equal_to_1e_5(packed(images(size=size)), model(images(size=size)))


def test_a_fused_feature_extractor_gives_the_features_of_the_original():
    torch.manual_seed(0)
    body = timm.create_model("ode_resnet18", features_only=True, zero_init_last=False, **WIDTHS)
    body.train()(images())
    body.eval()
    for found, expected in zip(odebackbones.fuse(body)(images()), body(images()), strict=True):
        assert_equal_to_1e_5(found, expected)


def norms_called(model):
    """The normalizations that a forward pass runs."""
    with torch.profiler.profile() as profile, torch.no_grad():
        model(images(1))
    return sum(event.count for event in profile.key_averages() if event.key == "aten::batch_norm")


@pytest.mark.parametrize("name", ["ode_resnet18", "ode_resnet50", "resnet18"])
def test_a_fused_model_runs_no_norm(name):
    model = make_model(name, **WIDTHS)
    assert norms_called(model) > 0
    assert norms_called(odebackbones.fuse(model)) == 0


def test_every_evaluation_time_has_weights_of_its_own():
    model = odebackbones.fuse(make_model("ode_resnet18", solver="euler", steps=3, **WIDTHS))
    convs = [module for module in model.modules() if isinstance(module, FusedConv2d)]
    assert len(convs) == 2 * 4 and all(len(conv.weight) == 3 for conv in convs)
    assert not any(p.requires_grad for p in model.parameters())


def test_a_fused_field_refuses_other_times():
    model = odebackbones.fuse(make_model("ode_resnet18", solver="euler", steps=2, **WIDTHS))
    field = model.layer1[-1].field
    with pytest.raises(InputError, match="change the solver first"):
        field(0.3, torch.zeros(1, 8, 4, 4))
    with pytest.raises(InputError, match="a fused model keeps its solver"):
        odebackbones.change_solver(model, steps=3)


@pytest.mark.slow
def test_a_solver_that_finds_its_own_times_is_not_fused():
    with pytest.raises(
        InputError, match=r"^layer1: fuse folds norms at the solver's times, and 'dopri5' finds its own"
    ):
        odebackbones.fuse(make_model("ode_resnet18", solver="dopri5", rtol=10.0, **WIDTHS))


@needs_onednn
def test_a_prepacked_model_is_not_saved_without_its_weights():
    with pytest.raises(InputError, match="save the one it was made of"):
        odebackbones.fuse(make_model("ode_resnet18", **WIDTHS), prepack=True).state_dict()


def test_a_prepacked_model_must_be_in_float32():
    with pytest.raises(InputError, match="float32"):
        odebackbones.fuse(make_model("ode_resnet18", **WIDTHS).double(), prepack=True)


def test_exporters_follow_a_fused_model():
    model = odebackbones.fuse(make_model("ode_resnet18", **WIDTHS))
    exported = torch.export.export(model, (images(),)).module()
    traced = torch.fx.symbolic_trace(model.layer1[-1])
    x = torch.randn(2, 8, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(exported(images(seed=5)), model(images(seed=5)))
        torch.testing.assert_close(traced(x), model.layer1[-1](x))
