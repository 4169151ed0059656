"""Faster R-CNN on ODE backbones keeps the contract of torchvision's own detectors."""

import io

import pytest
import torch
from small_detectors import CLASSES, EMPTY, OBJECT, RESNET, SMALL, build, pictures, target
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

import odebackbones.models  # noqa: F401 (registers the models)
from detection.evaluate import detect
from detection.model import full_precision
from engine.config import OptimConfig
from odebackbones.block import ODEBlock

LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


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
