"""ODE-ResNets: what timm asks of a model, the costs and sizes that they claim, variants and errors."""

import pytest
import torch
from small_ode_resnets import EVALUATIONS, NAMES, SMALL, create, create_skeleton, images
from timm.models import FeatureInfo, get_notrace_functions, get_notrace_modules
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from odebackbones.block import solver_stats


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
