"""timm's feature extractors as configurations name them."""

import pytest
import torch

import odebackbones  # noqa: F401 (registers the models)
from engine.report.records import model_label
from engine.weights.timm_models import create_features, feature_levels, warn_of_weights_left
from odebackbones import InputError


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet18", {2: 0, 4: 1, 8: 2, 16: 3, 32: 4}), ("vgg11", {1: 0, 2: 1, 4: 2, 8: 3, 16: 4, 32: 5})],
)
def test_levels_are_found_by_their_strides(name, expected):
    assert feature_levels("backbone", name, {}) == expected


def test_of_several_levels_of_a_stride_the_last_is_taken():
    levels = feature_levels("backbone", "resnet18", {"output_stride": 8})
    assert levels == {2: 0, 4: 1, 8: 4}


def test_features_have_their_channels_first_whatever_the_model():
    body = create_features("backbone", "swin_tiny_patch4_window7_224", {"depths": [1, 1, 1, 1]}, levels=[1, 3])
    with torch.inference_mode():
        features = body.eval()(torch.rand(1, 3, 224, 224))
    assert [tuple(level.shape) for level in features] == [(1, 192, 28, 28), (1, 768, 7, 7)]
    assert body.feature_info.channels() == [192, 768]


def test_an_unknown_model_and_unknown_arguments_are_refused_by_the_settings_name():
    with pytest.raises(InputError, match=r"unknown model.backbone 'resnet19'; did you mean 'resnet18'"):
        feature_levels("model.backbone", "resnet19", {})
    with pytest.raises(InputError, match=r"model.backbone resnet18 can't be made with \{'nonsense': 1\}"):
        feature_levels("model.backbone", "resnet18", {"nonsense": 1})


def test_a_model_is_described_with_its_arguments():
    assert model_label("ode_resnet34", {}) == "ode_resnet34"
    assert model_label("ode_resnet34", {"solver": "heun", "steps": 4}) == "ode_resnet34(solver=heun, steps=4)"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("swin_tiny_patch4_window7_224", {"depths": [1, 1, 1, 1], "embed_dim": 24, "num_heads": [1, 1, 1, 1]})],
)
def test_a_body_of_one_size_takes_all_where_timm_has_an_option_for_that(name, arguments):
    levels = feature_levels("backbone", name, arguments)
    body = create_features("backbone", name, arguments, levels=[levels[4], levels[32]], any_size=True)
    with torch.inference_mode():
        features = body.eval()(torch.rand(1, 3, 256, 320))
    assert [tuple(level.shape[2:]) for level in features] == [(64, 80), (8, 10)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maxvit_pico_rw_256", "hiera_tiny_224"])
def test_a_body_for_one_size_only_is_refused_in_one_line(name):
    levels = feature_levels("backbone", name, {})
    with pytest.raises(
        InputError, match=rf"backbone {name} takes images of one size only \(.*\): take a network for any"
    ):
        create_features("backbone", name, {}, levels=list(levels.values())[-2:], any_size=True)


def test_weights_of_a_folder_that_are_not_taken_are_told(caplog):
    warn_of_weights_left("model.backbone", "local-dir:runs/converted", False)
    assert "model.backbone=local-dir:runs/converted: the network is built without the weights" in caplog.text
    caplog.clear()
    warn_of_weights_left("model.backbone", "local-dir:runs/converted", True)
    warn_of_weights_left("model.backbone", "resnet18", False)
    assert not caplog.records
