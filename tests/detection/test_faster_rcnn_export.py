"""The detector leaves Python: torch.export and ONNX give what eager execution gives."""

import io

import onnxruntime
import pytest
import torch
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import odebackbones.models  # noqa: F401 (registers the models)
from detection.model import ModelConfig, build_faster_rcnn

SMALL = ModelConfig(
    backbone="ode_resnet18",
    backbone_args={"zero_init_last": False},  # else the fields are zero, and nothing would show their faults
    fpn_channels=32,
    box_head_size=32,
    min_size=[64],
    max_size=128,
    anchor_sizes=[8, 16, 32, 64, 128],
    proposals_test=50,
    detections=10,
    score_threshold=0.0,
)


def ours():
    torch.manual_seed(0)
    return build_faster_rcnn(SMALL, num_classes=3).eval()


def torchvisions():
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    return FasterRCNN(backbone, num_classes=3, min_size=64, max_size=128, rpn_post_nms_top_n_test=50).eval()


@pytest.fixture(scope="module")
def detector():
    """With heads of unit gain: fresh ones are so small that all scores tie, and their order would be chance."""
    model = ours()
    with torch.no_grad():
        for part in (model.rpn, model.roi_heads):
            for weight in part.parameters():
                if weight.dim() > 1:
                    torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return model


@pytest.mark.slow
def test_the_exported_backbone_equals_eager_on_other_batch_and_image_sizes(detector):
    sides = {0: Dim("batch", max=8), 2: 32 * Dim("rows", min=3, max=16), 3: 32 * Dim("columns", min=3, max=16)}
    with torch.no_grad():
        program = torch.export.export(detector.backbone, (torch.rand(2, 3, 128, 192),), dynamic_shapes=(sides,))
        for shape in ((1, 3, 96, 160), (3, 3, 256, 96)):
            images = torch.rand(shape)
            pyramid, expected = program.module()(images), detector.backbone(images)
            assert list(pyramid) == list(expected) == ["0", "1", "2", "3", "pool"]
            for name in expected:
                torch.testing.assert_close(pyramid[name], expected[name])


@pytest.fixture(scope="module")
def onnx_session(detector):
    file = io.BytesIO()
    torch.onnx.export(
        detector,
        ([torch.rand(3, 64, 96)],),
        file,
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["boxes", "labels", "scores"],
        dynamic_axes={"image": {1: "height", 2: "width"}},
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:Exporting aten..index operator of advanced indexing:UserWarning")
@pytest.mark.parametrize("size", [(64, 96), (100, 70), (60, 80)])
def test_the_onnx_detector_equals_eager_on_other_image_sizes(detector, onnx_session, size):
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    boxes, labels, scores = onnx_session.run(None, {"image": image.numpy()})
    with torch.no_grad():
        [expected] = detector([image])
    assert len(boxes) == len(expected["boxes"]) == SMALL.detections
    torch.testing.assert_close(torch.from_numpy(boxes), expected["boxes"], atol=1e-2, rtol=0)
    torch.testing.assert_close(torch.from_numpy(scores), expected["scores"], atol=1e-3, rtol=0)
    assert labels.tolist() == expected["labels"].tolist()


BATCHED_NMS = "torchvision's batched_nms branches on the number of boxes, which torch.export can't trace"


@pytest.mark.slow
@pytest.mark.xfail(raises=GuardOnDataDependentSymNode, reason=BATCHED_NMS, strict=True)
@pytest.mark.parametrize("build", [ours, torchvisions])
def test_torch_export_follows_the_whole_detector(build):
    torch.export.export(build(), ([torch.rand(3, 64, 96)],), strict=False)


@pytest.mark.slow
@pytest.mark.xfail(raises=torch.onnx.OnnxExporterError, reason=BATCHED_NMS, strict=True)
@pytest.mark.parametrize("build", [ours, torchvisions])
def test_the_dynamo_onnx_exporter_follows_the_whole_detector(build):
    pytest.importorskip("onnxscript", reason="the exporter needs onnxscript")
    torch.onnx.export(build(), ([torch.rand(3, 64, 96)],), dynamo=True, verbose=False)
