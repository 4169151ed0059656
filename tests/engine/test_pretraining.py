"""The hand-over of trained weights: between tasks, by name and shape, and every tensor accounted for."""

import logging

import pytest
import timm
import torch
from safetensors.torch import save_file

from classification.model import ModelConfig, build_classifier
from depth.model import build_depth_model
from detection.model import ModelConfig as DetectorConfig
from detection.model import build_faster_rcnn
from engine.weights.checkpoint import save_checkpoint
from engine.weights.pretrained import find_weight_transfer, load_matching_weights
from odebackbones import InputError

NAME = "ode_resnet18"
SMALL = {"channels": [8, 8, 16, 16]}
VGG = {"mlp_ratio": 0.01}


def classifier(name="ode_resnet18", num_classes=3, **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=num_classes, **kwargs)


def saved(model, folder, task="classification", **content):
    path = folder / "best.pt"
    settings = {"backbone": NAME, "backbone_args": {}} if task == "detection" else {"name": NAME, "args": {"steps": 2}}
    save_checkpoint(path, task=task, model=model.state_dict(), metadata={}, config={"model": settings}, **content)
    return str(path)


def trained_classifier(folder, **kwargs):
    model = classifier(**{**SMALL, **kwargs})
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else value)
    return model, saved(model, folder)


def agree(network, model):
    """Whether all tensors of a network are those of the same name in a model."""
    theirs = {name.replace(".", "_"): value for name, value in model.state_dict().items()}
    return all(torch.equal(value, theirs[name.replace(".", "_")]) for name, value in network.state_dict().items())


def test_a_depth_models_backbone_takes_all_weights_of_a_classifiers(tmp_path):
    model, path = trained_classifier(tmp_path)
    depth = build_depth_model("ode_resnet18", backbone_args=SMALL, pretrained=path)
    assert agree(depth.body, model)
    record = find_weight_transfer(depth)
    assert record is not None
    assert (record.new, record.reshaped) == ([], {})
    assert record.unused == ["fc.weight", "fc.bias"]
    share = f"{len(record.taken)} of {len(record.taken)} tensors taken"
    assert str(record) == f"{path} (ode_resnet18(steps=2)): {share}; 2 not used (fc.weight, fc.bias)"


def test_a_detectors_backbone_takes_them_too_and_hands_them_on(tmp_path):
    model, path = trained_classifier(tmp_path)
    config = {"backbone": "ode_resnet18", "backbone_args": SMALL, "fpn_channels": 16, "box_head_size": 16}
    detector = build_faster_rcnn(DetectorConfig(**config, pretrained=path), num_classes=3)
    assert agree(detector.backbone.body, model)
    (tmp_path / "second").mkdir()
    second = saved(detector, tmp_path / "second", task="detection")
    other = classifier(**SMALL)
    record = load_matching_weights(other, second, setting="model.pretrained")
    assert (record.new, record.network) == (["fc.weight", "fc.bias"], "ode_resnet18")
    assert "backbone.fpn.inner_blocks.0.0.weight" in record.unused
    assert torch.equal(other.conv1.weight, model.conv1.weight)


def test_of_a_moving_average_its_weights_are_taken_and_a_runs_folder_stands_for_its_best(tmp_path):
    averaged, last = classifier(**SMALL), classifier(**SMALL)
    with torch.no_grad():
        last.conv1.weight.zero_()
    saved(last, tmp_path, ema=averaged.state_dict())
    other = classifier(num_classes=5, **SMALL)
    load_matching_weights(other, str(tmp_path), setting="model.pretrained")
    assert torch.equal(other.conv1.weight, averaged.conv1.weight)


def test_names_that_timm_joins_in_a_feature_extractor_are_found(tmp_path):
    model, path = vgg(tmp_path)
    body = timm.create_model("ode_vgg11_bn", features_only=True, **VGG)
    record = load_matching_weights(body, path, setting="model.pretrained")
    assert not record.new and agree(body, model)


def vgg(folder):
    model = classifier("ode_vgg11_bn", **VGG)
    return model, saved(model, folder)


def test_what_has_another_shape_is_left_and_told(tmp_path):
    _, path = trained_classifier(tmp_path)
    model = classifier(num_classes=5, in_chans=1, **SMALL)
    before = model.conv1.weight.clone()
    record = load_matching_weights(model, path, setting="model.pretrained")
    assert list(record.reshaped) == ["conv1.weight", "fc.weight", "fc.bias"]
    assert record.unused == [] and torch.equal(model.conv1.weight, before)
    assert "3 of another shape in it (conv1.weight 64x3x7x7, fc.weight 3x16, fc.bias 3)" in str(record)


def test_a_solver_of_other_steps_takes_the_weights_and_not_the_statistics(tmp_path):
    model, path = trained_classifier(tmp_path)
    other = classifier(**SMALL, steps=3)
    record = load_matching_weights(other, path, setting="model.pretrained")
    assert all(".norms." in name for name in record.reshaped) and record.reshaped
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters(), strict=True))


def test_timms_files_are_read(tmp_path):
    model = classifier("resnet18", **SMALL)
    file, torchs = tmp_path / "model.safetensors", tmp_path / "model.pth"
    save_file(model.state_dict(), file)
    torch.save({"state_dict_ema": {f"module.{name}": value for name, value in model.state_dict().items()}}, torchs)
    for path in (file, torchs):
        other = timm.create_model("resnet18", num_classes=3, **SMALL)
        assert not load_matching_weights(other, str(path), setting="model.pretrained").new
        assert agree(other, model)


def test_a_classifier_starts_from_another_ones_features(tmp_path):
    model, path = trained_classifier(tmp_path)
    other = build_classifier(ModelConfig("ode_resnet18", SMALL, pretrained=path), setting="model", num_classes=7)
    assert torch.equal(other.conv1.weight, model.conv1.weight)
    loaded = build_classifier(
        ModelConfig("ode_resnet18", SMALL, pretrained="gone.pt"), setting="model", num_classes=7, loaded=True
    )
    assert find_weight_transfer(loaded) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file .*; expected true, false, a run's folder"),
        (b"no weights", "no weights, or damaged ones"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, caplog, content, message):
    path = tmp_path / "best.pt"
    if content is not None:
        path.write_bytes(content)
    with caplog.at_level(logging.CRITICAL), pytest.raises(InputError, match=message):
        load_matching_weights(classifier(**SMALL), str(path), setting="model.pretrained")


def test_another_networks_weights_are_refused(tmp_path):
    _, path = vgg(tmp_path)
    message = (
        r"has none of the network's weights, such as conv1\.weight.*, but those of ode_resnet18\(steps=2\), such as fe"
    )
    with pytest.raises(InputError, match=message):
        load_matching_weights(classifier(**SMALL), path, setting="model.pretrained")
