"""Packages that take their encoders from timm take ours unchanged. They are in ``pip install -e '.[consumers]'``."""

import pytest
import torch

import odebackbones  # noqa: F401 (registers the models)

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [("ode_resnet34", [3, 64, 64, 128, 256, 512]), ("ode_vgg16", [64, 128, 256, 512, 512, 512])],
)
def test_a_unet_of_segmentation_models_trains_a_step(encoder, channels):
    smp = pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation-models-pytorch")
    torch.manual_seed(0)
    model = smp.Unet(f"tu-{encoder}", encoder_weights=None, classes=3).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, target = torch.randn(2, 3, 64, 64), torch.randint(3, (2, 64, 64))
    losses = []
    for _ in range(4):
        losses.append(torch.nn.functional.cross_entropy(model(x), target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert model.encoder.out_channels == channels
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    assert losses[-1] < losses[0]


def test_an_efficientdet_trains_a_step():
    effdet = pytest.importorskip("effdet", reason="needs effdet")
    torch.manual_seed(0)
    config = effdet.get_efficientdet_config("tf_efficientdet_d0")
    config.update({"backbone_name": "ode_resnet18", "backbone_args": {}, "image_size": [128, 128], "num_classes": 3})
    build = effdet.create_model_from_config
    model = build(config, bench_task="train", bench_labeler=True, pretrained=False, pretrained_backbone=False)
    target = {
        "bbox": torch.tensor([[[10.0, 10.0, 60.0, 60.0]]] * 2),
        "cls": torch.ones(2, 1),
        "img_scale": torch.ones(2),
        "img_size": torch.full((2, 2), 128.0),
    }
    model(torch.randn(2, 3, 128, 128), target)["loss"].backward()
    gradients = [p.grad for name, p in model.named_parameters() if ".field.conv1" in name]
    assert len(gradients) == 4 and all(gradient is not None for gradient in gradients)
