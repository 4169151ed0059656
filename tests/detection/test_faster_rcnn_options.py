"""What the configuration of a detector does: frozen levels, sizes, and what is refused."""

import pytest
import torch
from small_detectors import CLASSES, EMPTY, OBJECT, RESNET, build, pictures

import odebackbones.models  # noqa: F401 (registers the models)
from detection.model import ModelConfig, build_body, build_faster_rcnn
from odebackbones.errors import InputError


@pytest.mark.slow
@pytest.mark.parametrize(("levels", "parts"), [(1, ("conv1", "bn1")), (2, ("conv1", "bn1", "layer1"))])
def test_frozen_levels_get_no_gradients_and_keep_their_statistics(levels, parts):
    model = build(frozen_stages=levels)
    frozen = tuple(f"backbone.body.{part}." for part in parts)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval().train()
    sum(model(pictures((60, 80), (80, 64)), [OBJECT, EMPTY]).values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
        assert parameter.requires_grad != name.startswith(frozen), name
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved == {name for name in before if not name.startswith(frozen)}
    modes = {name: module.training for name, module in model.named_modules()}
    assert not any(modes[f"backbone.body.{part}"] for part in parts)
    assert modes["backbone.body.layer2.0.bn1"] and modes["roi_heads"]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [{}, RESNET], ids=["ode_resnet18", "resnet18"])
@pytest.mark.parametrize("levels", [0, 2])
def test_frozen_norms_keep_their_statistics_and_gains_while_convolutions_train(backbone, levels):
    model = build(frozen_norm=True, frozen_stages=levels, **backbone)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert any("running_mean" in name for name in before)
    model.eval().train()
    sum(model(pictures((60, 80), (80, 64)), [OBJECT, EMPTY]).values()).backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    trained = {name.removeprefix("backbone.body.") for name, p in model.named_parameters() if p.grad is not None}
    convolutions = {"conv1.weight", "layer1.0.conv1.weight", "layer4.0.conv2.weight", "layer2.0.downsample.0.weight"}
    assert convolutions & trained == {
        name for name in convolutions if levels == 0 or name.startswith(("layer2", "layer4"))
    }
    assert not any(".norm" in name or "bn" in name for name in trained)


@pytest.mark.slow
def test_without_frozen_levels_all_statistics_move():
    model = build()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(pictures((60, 80)), [OBJECT])
    assert all(not torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first", "free"),
    [
        ("efficientnet_b0", {"conv_stem", "bn1", "blocks.0", "blocks.1"}, "blocks.2"),
        ("mobilenetv3_small_100", {"conv_stem", "bn1", "blocks.0"}, "blocks.1"),
        ("convnext_atto", {"stem_0", "stem_1", "stages_0", "stages_1"}, "stages_2"),
    ],
)
def test_bodies_of_other_kinds_are_frozen_up_to_the_level(name, first, free):
    config = ModelConfig(backbone=name, frozen_stages=2, fpn_channels=16, box_head_size=16)
    body = build_faster_rcnn(config, num_classes=2).train().backbone.body
    frozen = {part for part, module in body.named_modules() if list(module.parameters()) and not trained(module)}
    assert first <= frozen and free not in frozen
    assert not any(body.get_submodule(part).training for part in first)
    assert body.get_submodule(free).training and trained(body.get_submodule(free))


def trained(module):
    """Whether something in it is trained."""
    return any(p.requires_grad for p in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("levels", [6, -1])
def test_a_number_of_frozen_levels_out_of_range_is_refused_with_the_levels(levels):
    with pytest.raises(InputError, match=rf"frozen_stages={levels}: .*1: 'act1', 2: 'layer1', .*5: 'layer4'"):
        build(frozen_stages=levels)


@pytest.mark.slow
def test_levels_are_found_by_stride_where_the_model_leaves_out_its_first_ones_by_default():
    body = build_body(ModelConfig(backbone="dla34"), pretrained=False)
    assert body.feature_info.reduction() == [4, 8, 16, 32]


@pytest.mark.parametrize("name", ["class_path", "init_args", "out_indices", "pretrained", "features_only"])
def test_names_that_are_not_a_backbones_to_be_given_are_refused(name):
    with pytest.raises(InputError, match=f"model.backbone_args: {name}: set by the task; remove it"):
        ModelConfig(backbone_args={name: 1})


def test_training_draws_the_image_size_and_evaluation_takes_the_last():
    model = build(min_size=[64, 96], max_size=200)
    images = pictures((64, 80))
    torch.manual_seed(0)
    drawn = {model.transform(images)[0].image_sizes[0] for _ in range(20)}
    assert drawn == {(64, 80), (96, 120)}
    model.eval()
    assert {model.transform(images)[0].image_sizes[0] for _ in range(5)} == {(96, 120)}


@pytest.mark.slow
def test_images_are_normalized_as_the_backbone_was_trained():
    transform = build(backbone="mobilenetv3_small_050", backbone_args={}).transform
    assert transform.image_mean == [0.485, 0.456, 0.406] and transform.image_std == [0.229, 0.224, 0.225]
    transform = build(backbone="resnetv2_50x1_bit", backbone_args={}).transform
    assert transform.image_mean == transform.image_std == [0.5, 0.5, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "channels"),
    [("ode_resnet18", [64, 128, 256, 512]), ("vgg11_bn", [256, 512, 512, 512])],
)
def test_the_pyramid_stands_on_the_levels_of_stride_4_to_32_wherever_they_are(backbone, channels):
    model = build(backbone=backbone, backbone_args={}).eval()
    assert model.backbone.body.feature_info.reduction() == [4, 8, 16, 32]
    assert model.backbone.body.feature_info.channels() == channels
    image = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        assert [level.shape[1] for level in model.backbone.body(image)] == channels
        pyramid = model.backbone(image)
    shapes = {name: tuple(level.shape) for name, level in pyramid.items()}
    assert shapes == {
        name: (1, 32, 64 // s, 128 // s) for name, s in zip([*"0123", "pool"], (4, 8, 16, 32, 64), strict=True)
    }


def test_sizes_of_the_configuration_reach_the_detector():
    model = build(proposals_train=41, proposals_test=42, rpn_batch_size=43, box_batch_size=44, detections=45)
    assert model.rpn.pre_nms_top_n() == model.rpn.post_nms_top_n() == 41
    model.eval()
    assert model.rpn.pre_nms_top_n() == model.rpn.post_nms_top_n() == 42
    assert model.rpn.fg_bg_sampler.batch_size_per_image == 43
    assert model.roi_heads.fg_bg_sampler.batch_size_per_image == 44
    assert model.roi_heads.detections_per_img == 45
    assert model.rpn.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))
    assert model.roi_heads.box_predictor.predictor.cls_score.out_features == CLASSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "ode_resnet19"}, r"unknown model.backbone 'ode_resnet19'; did you mean 'ode_resnet18'"),
        ({"backbone_args": {"stepz": 3}}, r"unknown argument 'stepz'; did you mean 'steps'"),
        (
            {**RESNET, "backbone_args": {"solver": "euler"}},
            r"solver: arguments of ODE models, and resnet18 has no ODE blocks",
        ),
        ({"backbone_args": {"solver": "eulr"}}, r"unknown solver 'eulr'; did you mean 'euler'"),
        ({"backbone_args": {"steps": [1, 2]}}, r"steps=\[1, 2\]: expected one whole number, or a list of 4"),
        ({"backbone": "test_vit", "backbone_args": {}}, r"strides \[16\] and none at \[4, 8, 32\]; take"),
        ({"anchor_sizes": [8, 16, 32, 64]}, r"anchor_sizes=\[8, 16, 32, 64\]: expected 5 sizes"),
        ({"min_size": []}, r"min_size=\[\].*at least 32 px"),
        ({"min_size": [31]}, r"min_size=\[31\].*at least 32 px"),
        ({"min_size": [64, 256]}, r"max_size=128: .*max_size not below min_size"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(value),
)
def test_wrong_options_are_named_with_what_is_expected(changes, message):
    with pytest.raises(InputError, match=message):
        build(**changes)
