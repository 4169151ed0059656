"""The ResNets for images of 32 px: the paper's sizes, trained weights, and their conversion."""

import timm
import torch
from PIL import Image
from pytest import fixture, mark
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision.transforms.v2.functional import normalize, pil_to_tensor, to_dtype

from odebackbones import change_bases, from_resnet, solver_stats, to_resnet

# K. He et al., arXiv:1512.03385, table 6, and the counts that akamaster/pytorch_resnet_cifar10 prints
PARAMETERS = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
}


def count(model):
    return sum(p.numel() for p in model.parameters())


@mark.parametrize("name", PARAMETERS)
def test_the_parameters_are_those_of_the_paper(name):
    with torch.device("meta"):
        assert count(timm.create_model(f"{name}_cifar")) == PARAMETERS[name]


def test_features_and_head_are_what_timm_expects():
    model = timm.create_model("resnet20_cifar", features_only=True)
    assert model.feature_info.channels() == [16, 16, 32, 64, 64]
    assert model.feature_info.reduction() == [1, 1, 2, 4, 4]
    assert [tuple(f.shape) for f in model(torch.zeros(1, 3, 32, 32))] == [
        (1, 16, 32, 32), (1, 16, 32, 32), (1, 32, 16, 16), (1, 64, 8, 8), (1, 64, 8, 8)
    ]  # fmt: skip
    classifier = timm.create_model("resnet20_cifar", num_classes=100, in_chans=1)
    assert classifier(torch.zeros(2, 1, 32, 32)).shape == (2, 100)
    classifier.reset_classifier(0)
    assert classifier(torch.zeros(2, 1, 32, 32)).shape == (2, 64)


def test_fewer_bases_have_the_parameters_of_shallower_networks():
    converted = from_resnet(timm.create_model("resnet56_cifar"))
    assert [s.nfe for s in solver_stats(converted).values()] == [8, 8, 8]
    parameters = {bases: count(change_bases(converted, bases)) for bases in (8, 4, 2, 1)}
    assert parameters == {8: 853_018, 4: 464_154, 2: 269_722, 1: 172_506}


@fixture(scope="module")
def test_images(shared_data):
    """1000 of CIFAR-10's test images, 100 of each class, and their classes."""
    batches = []
    for sheet in sorted((shared_data / "cifar10/test").glob("*_0.webp")):
        rows = pil_to_tensor(Image.open(sheet).convert("RGB"))[:, :128].unfold(1, 32, 32).unfold(2, 32, 32)
        batches.append(rows.flatten(1, 2).transpose(0, 1)[:100])
    images = to_dtype(torch.cat(batches), torch.float32, scale=True)
    return normalize(images, list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)), torch.arange(1000) // 100


@mark.shared_data
@mark.parametrize(("name", "file"), [("resnet20", "resnet20-12fca82f.th"), ("resnet56", "resnet56-4bfd9763.th")])
def test_trained_weights_are_read_and_converted(name, file, shared_data, test_images):
    overlay = {"file": str(shared_data / "weights" / file)}
    model = timm.create_model(f"{name}_cifar", pretrained=True, pretrained_cfg_overlay=overlay).eval()
    images, classes = test_images
    with torch.inference_mode():
        logits = model(images)
        assert (logits.argmax(dim=1) == classes).float().mean() > 0.9
        torch.testing.assert_close(from_resnet(model)(images), logits, rtol=0.0, atol=1e-4)
        torch.testing.assert_close(to_resnet(from_resnet(model))(images), logits, rtol=0.0, atol=1e-4)
