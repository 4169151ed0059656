"""Faster R-CNN on ODE backbones keeps the contract of torchvision's own detectors."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

import odebackbones.models  # noqa: F401 (registers the models)
from detection.evaluate import detect
from detection.model import ModelConfig, build_body, build_faster_rcnn, full_precision
from engine.config import OptimConfig
from odebackbones.block import ODEBlock
from odebackbones.errors import InputError

LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
CLASSES = 3
SMALL = ModelConfig(
    backbone="ode_resnet18",
    backbone_args={"zero_init_last": False},  # else the fields are zero, and nothing would show their faults
    fpn_channels=32,
    box_head_size=32,
    min_size=[64],
    max_size=128,
    anchor_sizes=[8, 16, 32, 64, 128],
    proposals_train=50,
    proposals_test=50,
    detections=10,
    score_threshold=0.0,
)
RESNET = {"backbone": "resnet18", "backbone_args": {}}


def build(*, seed=0, **changes):
    torch.manual_seed(seed)
    return build_faster_rcnn(replace(SMALL, **changes), num_classes=CLASSES)


def pictures(*sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=generator, dtype=dtype) for size in sizes]


def target(*boxes):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
    }


OBJECT, EMPTY = target((5, 6, 40, 50), (20, 10, 60, 30)), target()


def spread_scores(model):
    """Give the heads weights of unit gain: fresh ones are so small that all scores tie."""
    with torch.no_grad():
        for part in (model.rpn, model.roi_heads):
            for weight in part.parameters():
                if weight.dim() > 1:
                    torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return model


@pytest.fixture(scope="module")
def detector():
    return spread_scores(build()).eval()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [{}, RESNET], ids=["ode_resnet18", "resnet18"])
@pytest.mark.parametrize(
    "targets",
    [[OBJECT, OBJECT], [OBJECT, EMPTY], [EMPTY, OBJECT], [EMPTY, EMPTY]],
    ids=["objects", "empty_last", "empty_first", "only_empty"],
)
def test_training_returns_four_finite_losses_with_or_without_objects(backbone, targets):
    model = build(**backbone)
    losses = model(pictures((60, 80), (80, 64)), targets)
    assert set(losses) == LOSSES
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    boxes_to_learn = any(len(t["boxes"]) for t in targets)
    assert (losses["loss_rpn_box_reg"] > 0) == boxes_to_learn
    assert (losses["loss_box_reg"] > 0) == boxes_to_learn
    assert losses["loss_classifier"] > 0 and losses["loss_objectness"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "targets should not be none"),
        ([{**OBJECT, "boxes": torch.rand(4)}], r"tensor of shape \[N, 4\]"),
        ([{**OBJECT, "boxes": torch.rand(2, 3)}], r"tensor of shape \[N, 4\]"),
        ([{**OBJECT, "boxes": [[1, 2, 3, 4]]}], "of type Tensor"),
        ([target((5, 5, 5, 9))], r"Found invalid box \[5.0, 5.0, 5.0, 9.0\]"),
        ([target((5, 6, 9, 8), (5, 9, 7, 6))], r"Found invalid box \[5.0, 9.0, 7.0, 6.0\] for target at index 0"),
    ],
    ids=["missing", "one_box", "three_numbers", "list", "no_width", "upside_down"],
)
def test_wrong_targets_are_refused_in_training(targets, message):
    with pytest.raises(AssertionError, match=message):
        build()(pictures((64, 96)), targets)


def test_images_that_are_no_float_pictures_are_refused(detector):
    with pytest.raises(TypeError, match="floating type"):
        detector([torch.zeros(3, 64, 96, dtype=torch.uint8)])
    with pytest.raises(ValueError, match="list of 3d tensors"):
        detector([torch.zeros(1, 3, 64, 96)])


def test_detections_have_torchvisions_keys_shapes_and_dtypes_and_lie_in_their_images(detector):
    sizes = [(60, 80), (150, 50), (64, 64)]
    found = detector(pictures(*sizes))
    assert len(found) == len(sizes)
    for (height, width), detections in zip(sizes, found, strict=True):
        assert set(detections) == {"boxes", "labels", "scores"}
        boxes, labels, scores = detections["boxes"], detections["labels"], detections["scores"]
        assert 0 < len(boxes) <= SMALL.detections
        assert boxes.shape == (len(boxes), 4) and labels.shape == scores.shape == (len(boxes),)
        assert (boxes.dtype, labels.dtype, scores.dtype) == (torch.float32, torch.int64, torch.float32)
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height]) + 1e-4).all()
        assert (labels >= 1).all() and (labels < CLASSES).all()
        assert (scores.diff() <= 0).all() and (scores > 0).all() and (scores <= 1).all()
    assert (found[1]["boxes"][:, 3] > 80).any()  # beyond what the wider images have


@pytest.mark.slow
def test_only_detections_at_the_threshold_are_kept(detector):
    scores = detector(pictures((64, 96)))[0]["scores"].detach()
    threshold = float(scores[len(scores) // 2])
    strict = spread_scores(build(score_threshold=threshold)).eval()
    strict.load_state_dict(detector.state_dict())
    kept = strict(pictures((64, 96)))[0]["scores"]
    assert torch.equal(kept, scores[scores > threshold]) and 0 < len(kept) < len(scores)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_images_and_targets_of_the_caller_are_left_as_they_were(training):
    model = build().train(training)
    images, targets = pictures((60, 80), (80, 64)), [OBJECT, EMPTY]
    lists, image_copies = (list(images), list(targets)), [image.clone() for image in images]
    target_copies = [{name: value.clone() for name, value in t.items()} for t in targets]
    model(images, targets)
    assert all(now is before for now, before in zip([*images, *targets], [*lists[0], *lists[1]], strict=True))
    assert all(map(torch.equal, images, image_copies))
    for now, before in zip(targets, target_copies, strict=True):
        assert now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in now)


def test_detections_of_the_predict_module_are_the_models_own_in_evaluation_mode(detector):
    expected = detector(pictures((64, 96)))[0]
    found = detect(detector.train(), pictures((64, 96)), torch.device("cpu"), OptimConfig())[0]
    assert not detector.training
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.slow
def test_double_precision_gives_double_boxes_and_the_same_detections(detector):
    model = spread_scores(build()).double().eval()
    model.load_state_dict(detector.state_dict())
    found = model(pictures((64, 96), dtype=torch.float64))[0]
    expected = detector([image.float() for image in pictures((64, 96), dtype=torch.float64)])[0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float64
    torch.testing.assert_close(found["boxes"].float(), expected["boxes"], atol=1e-2, rtol=0)
    torch.testing.assert_close(found["scores"].float(), expected["scores"], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_double_precision_trains():
    model = build().double()
    losses = model(pictures((64, 96), dtype=torch.float64), [{**OBJECT, "boxes": OBJECT["boxes"].double()}])
    sum(losses.values()).backward()
    assert set(losses) == LOSSES and all(loss.isfinite() for loss in losses.values())
    assert {p.grad.dtype for p in model.parameters()} == {torch.float64}


def input_gradient(gradient, *, batch_statistics):
    model = build(backbone_args={"zero_init_last": False, "gradient": gradient})
    model.backbone.train(batch_statistics)
    assert {block.solver.gradient for block in model.modules() if isinstance(block, ODEBlock)} == {gradient}
    image = pictures((64, 96))[0].requires_grad_()
    torch.manual_seed(2)
    sum(model([image], [OBJECT]).values()).backward()
    return image.grad


@pytest.mark.slow
@pytest.mark.parametrize("batch_statistics", [True, False])
def test_gradients_reach_the_image_alike_in_both_gradient_modes(batch_statistics):
    checkpoint = input_gradient("checkpoint", batch_statistics=batch_statistics)
    backprop = input_gradient("backprop", batch_statistics=batch_statistics)
    assert (backprop.abs().amax(dim=(1, 2)) > 1e-4).all()
    torch.testing.assert_close(checkpoint, backprop, rtol=1e-5, atol=1e-7)


# The sides are such that torchvision's resizing in float32 (scripted) and in double (eager) round alike;
# for (80, 50) px they differ by a pixel, in torchvision's own models too.
SCRIPT_WARNINGS = (
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:RCNN always returns a .Losses, Detections. tuple:UserWarning"),
)


def script(model):
    """Through a file, as a deployed model goes."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    return torch.jit.load(file)


@pytest.mark.slow
@SCRIPT_WARNINGS[0]
@SCRIPT_WARNINGS[1]
@pytest.mark.filterwarnings("ignore:.torch.jit.(save|load). is deprecated:FutureWarning")
def test_a_detector_with_a_plain_body_is_scripted_and_equals_the_eager_one():
    model = spread_scores(build(backbone="resnet18", backbone_args={}))
    scripted = script(model)
    images, targets = pictures((60, 80), (100, 70)), [OBJECT, EMPTY]
    torch.manual_seed(3)
    losses, detections = scripted(images, targets)
    torch.manual_seed(3)
    eager = model(images, targets)
    assert set(losses) == LOSSES and detections == []
    for name in LOSSES:
        torch.testing.assert_close(losses[name], eager[name])
    model.eval()
    scripted.load_state_dict(model.state_dict())
    scripted.eval()
    with torch.no_grad():
        losses, detections = scripted(images)
        eager = model(images)
    assert losses == {}
    for found, expected in zip(detections, eager, strict=True):
        for name in expected:
            torch.testing.assert_close(found[name], expected[name])


def test_half_precision_is_raised_to_float32_and_double_stays():
    raised = {d: full_precision(torch.ones(2, dtype=d)).dtype for d in (torch.bfloat16, torch.float16, torch.float64)}
    assert raised == {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float64: torch.float64}


@pytest.mark.slow
def test_boxes_under_autocast_lie_on_the_anchors_of_full_precision():
    """Box deltas of zero: a box is an anchor. Beyond 512 px bfloat16 knows multiples of 4 px only, anchors are odd."""
    height, width = 64, 1056
    model = spread_scores(build(max_size=width, anchor_sizes=[10, 20, 40, 80, 160], detections=100)).eval()
    for head in (model.rpn.head.head.bbox_pred, model.roi_heads.box_predictor.predictor.bbox_pred):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        levels = list(model.backbone(torch.rand(1, 3, height, width)).values())
        [found] = model(pictures((height, width)))
    [anchors] = model.rpn.anchor_generator(ImageList(torch.zeros(1, 3, height, width), [(height, width)]), levels)
    anchors = clip_boxes_to_image(anchors, (height, width))
    boxes = found["boxes"]
    assert anchors.dtype == boxes.dtype == found["scores"].dtype == torch.float32
    assert (boxes[:, None] == anchors).all(dim=-1).any(dim=1).all()
    far = boxes[(boxes[:, 0] > 512) & (boxes[:, 2] < width)]
    assert (far[:, [0, 2]] % 4 != 0).any()


@pytest.mark.slow
def test_losses_under_autocast_are_float32_and_near_those_without():
    model = build()
    losses = {}
    for enabled in (True, False):
        torch.manual_seed(4)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses[enabled] = model(pictures((60, 80), (80, 64)), [OBJECT, EMPTY])
    assert {loss.dtype for loss in losses[True].values()} == {torch.float32}
    for name in LOSSES:
        torch.testing.assert_close(losses[True][name], losses[False][name], rtol=0.1, atol=0.02)


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
    with pytest.raises(InputError, match=f"model.backbone_args: {name}: not for a model"):
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
        ({**RESNET, "backbone_args": {"solver": "euler"}}, r"resnet18 can't be made with .*'solver'"),
        ({"backbone_args": {"solver": "eulr"}}, r"unknown solver 'eulr'; did you mean 'euler'"),
        ({"backbone_args": {"steps": [1, 2]}}, r"steps=\[1, 2\]: expected one int, or 4"),
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
