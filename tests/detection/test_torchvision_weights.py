"""torchvision's own detectors as the witness: the same detections from the same weights, both ways."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2
from torchvision.models.detection.mask_rcnn import maskrcnn_resnet50_fpn
from torchvision.models.detection.retinanet import retinanet_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from detection.model import ModelConfig, build_faster_rcnn
from detection.torchvision_weights import to_torchvision
from engine.weights.pretrained import find_weight_transfer
from odebackbones.block import ode_blocks
from odebackbones.errors import InputError

FEW = 40
"""Number of proposals."""

SIZES = {"min_size": 128, "max_size": 192, "box_score_thresh": 0.0}
SIZES |= {"rpn_pre_nms_top_n_test": FEW, "rpn_post_nms_top_n_test": FEW}
CLASSES = 7


def randomize(model):
    """Give norms gains, offsets and statistics that differ from channel to channel."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            for name, low, high in (("weight", 0.2, 0.6), ("bias", -0.1, 0.1), ("running_mean", -0.1, 0.1)):
                getattr(module, name).detach().uniform_(low, high)
            module.running_var.uniform_(1e-3, 0.5)  # so small that eps counts
            module.weight.detach().mul_(module.running_var.sqrt())
    return model


def frozen_v1(**kwargs):
    """The detector with frozen norms without eps, as torchvision loads COCO's weights."""
    model = fasterrcnn_resnet50_fpn(**kwargs)
    for name, module in list(model.backbone.body.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent, _, last = name.rpartition(".")
            frozen = FrozenBatchNorm2d(module.num_features, eps=0.0)
            setattr(model.backbone.body.get_submodule(parent), last, frozen)
    return model


THEIRS = {"v1": fasterrcnn_resnet50_fpn, "frozen v1": frozen_v1, "v2": fasterrcnn_resnet50_fpn_v2}


def make_theirs(kind):
    torch.manual_seed(0)
    detector = THEIRS[kind](weights=None, weights_backbone=None, num_classes=CLASSES, **SIZES)
    return randomize(detector).double().eval()


def make_ours(file, *, heads, classes=CLASSES, **settings):
    sizes = {"min_size": [128], "max_size": 192, "score_threshold": 0.0, "proposals_test": FEW}
    config = ModelConfig(**{"backbone": "resnet50", "heads": heads, "pretrained": str(file), **sizes, **settings})
    return build_faster_rcnn(config, num_classes=classes).double().eval()


def images():
    return [torch.rand(3, 150, 110, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(2)]


@torch.no_grad()
def largest_difference(ours, theirs):
    found, wanted = ours(images()), theirs(images())
    assert all(len(w["boxes"]) > 5 for w in wanted)
    return max(float((f[key] - w[key]).abs().max()) for f, w in zip(found, wanted, strict=True) for key in w)


@pytest.fixture(scope="module", params=["v1", "frozen v1", pytest.param("v2", marks=pytest.mark.slow)])
def saved(request, tmp_path_factory):
    theirs = make_theirs(request.param)
    file = tmp_path_factory.mktemp("torchvision") / "model.pth"
    torch.save({name: t.float() if t.is_floating_point() else t for name, t in theirs.state_dict().items()}, file)
    return request.param.split()[-1], theirs.load_state_dict(torch.load(file)) and theirs, file


def test_the_detections_are_torchvisions(saved):
    heads, theirs, file = saved
    assert largest_difference(make_ours(file, heads=heads), theirs) < 1e-5


def test_an_ode_backbone_starts_from_the_converted_body(saved):
    heads, theirs, file = saved
    arguments = {"solver": "euler", "projected": True, "steps": [2, 3, 5, 2], "bases": [2, 3, 5, 2]}
    ours = make_ours(file, heads=heads, backbone="ode_resnet50", backbone_args=arguments)
    assert largest_difference(ours, theirs) < 1e-5


def test_the_way_back_gives_torchvisions_detections(saved):
    heads, _, file = saved
    ours = make_ours(file, heads=heads)
    own = (fasterrcnn_resnet50_fpn if heads == "v1" else fasterrcnn_resnet50_fpn_v2)(
        weights=None, weights_backbone=None, num_classes=CLASSES, **SIZES
    )
    own.load_state_dict(to_torchvision(ours))
    assert largest_difference(ours, own.double().eval()) < 1e-9


@pytest.mark.parametrize("wrong", ["eps", "anchors", "name"])
def test_a_wrong_eps_anchor_or_name_shows(saved, wrong):
    heads, theirs, file = saved
    ours = make_ours(file, heads=heads)
    if wrong == "eps":
        for module in ours.backbone.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps += 1e-5
    elif wrong == "anchors":
        ours.rpn.anchor_generator.cell_anchors = [a * 1.001 for a in ours.rpn.anchor_generator.cell_anchors]
    else:
        state = ours.state_dict()
        first, second = (f"backbone.fpn.layer_blocks.{level}.0.weight" for level in (0, 1))
        state[first], state[second] = state[second].clone(), state[first].clone()
        ours.load_state_dict(state)
    assert largest_difference(ours, theirs) > 1e-5


def test_names_of_old_files_are_known(tmp_path):
    theirs = make_theirs("v1")
    old = {
        name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        .replace("blocks.0.0.", "blocks.0.")
        .replace("blocks.1.0.", "blocks.1.")
        .replace("blocks.2.0.", "blocks.2.")
        .replace("blocks.3.0.", "blocks.3."): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in theirs.state_dict().items()
    }
    torch.save(old, tmp_path / "old.pth")
    record = find_weight_transfer(make_ours(tmp_path / "old.pth", heads="v1"))
    assert record is not None and not record.new and not record.unused and not record.reshaped


def test_other_classes_keep_the_rest_and_say_what_was_left(saved):
    heads, theirs, file = saved
    ours = make_ours(file, heads=heads, classes=3)
    record = find_weight_transfer(ours)
    assert record is not None and not record.new and not record.unused
    assert {name.split(".")[2] for name in record.reshaped} == {"predictor"} and len(record.reshaped) == 4
    assert torch.equal(ours.state_dict()["rpn.head.head.cls_logits.weight"], theirs.rpn.head.cls_logits.weight)


@pytest.mark.parametrize(
    ("build", "words"), [(maskrcnn_resnet50_fpn, "a Mask R-CNN"), (retinanet_resnet50_fpn, "a RetinaNet, FCOS or SSD")]
)
def test_other_detectors_are_refused(tmp_path, build, words):
    torch.save(build(weights=None, weights_backbone=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=f"has the weights of {words}; take those of a Faster R-CNN"):
        make_ours(tmp_path / "other.pth", heads="v1")


def test_other_heads_and_backbones_are_refused(saved):
    heads, _, file = saved
    with pytest.raises(InputError, match=rf"set --model\.heads {heads}"):
        make_ours(file, heads="v2" if heads == "v1" else "v1")
    with pytest.raises(InputError, match="its backbone is another one than resnet101"):
        make_ours(file, heads=heads, backbone="resnet101")
    with pytest.raises(InputError, match=r"unknown model\.heads 'v3'"):
        make_ours(file, heads="v3")


def test_a_converted_body_has_its_statistics_at_the_times_of_all_budgets(tmp_path):
    theirs = randomize(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES, **SIZES))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    arguments = {"solver": "euler", "steps": 3, "budgets": [1, 2, 3]}
    ours = make_ours(tmp_path / "theirs.pth", heads="v1", backbone="ode_resnet50", backbone_args=arguments)
    for block in ode_blocks(ours):
        norm = block.field.norm1
        found = torch.stack([node.running_mean for node in norm.norms])
        assert norm.nodes == [0.0, 1 / 3, 1 / 2, 2 / 3]
        torch.testing.assert_close(found[2], (found[1] + found[3]) / 2)  # interpolated, in place of a neighbour's
