"""ResNets in the layout of He et al.'s Caffe models."""

import pytest
import timm
import torch
import torch.nn.functional as F

from odebackbones import from_resnet, to_resnet
from odebackbones.models import CaffeResNet, ODECaffeResNet

SMALL = {"layers": (2, 2, 3, 1), "channels": (8, 8, 16, 16), "stem_width": 8, "num_classes": 5}


def perturbed(model):
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.2 * torch.rand_like(tensor))
    return model.eval()


def caffe_block(x, block, stride):
    """A bottleneck as Caffe's prototxt has it, from functions."""

    def norm(x, layer):
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)

    shortcut = x
    if block.downsample is not None:
        shortcut = norm(F.conv2d(x, block.downsample[0].weight, stride=stride), block.downsample[1])
    y = F.relu(norm(F.conv2d(x, block.conv1.weight, stride=stride), block.bn1))
    y = F.relu(norm(F.conv2d(y, block.conv2.weight, padding=1), block.bn2))
    return F.relu(norm(F.conv2d(y, block.conv3.weight), block.bn3) + shortcut)


def test_the_network_is_caffes():
    model = perturbed(timm.create_model("caffe_resnet50", **SMALL))
    images = torch.randn(2, 3, 70, 94)
    x = F.conv2d(images, model.conv1.weight, stride=2, padding=3)
    x = F.relu(F.batch_norm(x, model.bn1.running_mean, model.bn1.running_var, model.bn1.weight, model.bn1.bias))
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    for i, stage in enumerate((model.layer1, model.layer2, model.layer3, model.layer4)):
        for j, block in enumerate(stage):
            x = caffe_block(x, block, 2 if i and not j else 1)
    torch.testing.assert_close(model.forward_features(images), x, rtol=1e-5, atol=1e-5)


def test_it_is_an_ode_and_comes_back():
    model = perturbed(timm.create_model("caffe_resnet152", **SMALL))
    converted, images = from_resnet(model), torch.randn(2, 3, 64, 96)
    assert isinstance(converted, ODECaffeResNet)
    assert converted.pretrained_cfg["architecture"] == "ode_caffe_resnet152"
    torch.testing.assert_close(converted(images), model(images), rtol=1e-5, atol=1e-5)
    again = to_resnet(converted)
    assert type(again) is CaffeResNet
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["caffe_resnet50", "ode_caffe_resnet101"])
def test_its_trunk_has_no_last_stage(name):
    body = timm.create_model(name, features_only=True, out_indices=(1, 2, 3), **SMALL | {"layers": (2, 2, 2, 2)})
    assert body.feature_info.reduction() == [4, 8, 16] and not any("layer4" in key for key in body.state_dict())
    assert [level.shape[2:] for level in body.eval()(torch.randn(1, 3, 64, 96))] == [(16, 24), (8, 12), (4, 6)]
