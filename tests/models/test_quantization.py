"""torch's post-training quantization finds the convolutions of fields as it finds those of a ResNet."""

import copy

import pytest
import timm
import torch
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

import odebackbones

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's of its own deprecations


def images(seed):
    return torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def trained_statistics(model):
    """A model whose norms have seen images."""
    with torch.no_grad():
        for seed in range(20):
            model.train()(images(seed))
    return model.eval()


def error_in_int8(model):
    """Of the features, relative to their norm, and how many of the graph's nodes compute in int8."""
    x = images(100)
    prepared = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping("x86"), (x,))
    prepared(x)
    quantized = convert_fx(prepared)
    nodes = [node for node in quantized.graph.nodes if "quantized" in str(node.target) or "Conv" in str(node.target)]
    expected = model(x)
    return float((quantized(x) - expected).norm() / expected.norm()), len(nodes)


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@torch.no_grad()
def test_a_model_in_int8_errs_about_as_much_as_its_discrete_network(fused):
    torch.manual_seed(0)
    model = trained_statistics(timm.create_model("ode_resnet18", num_classes=0))
    error, convolutions = error_in_int8(odebackbones.fuse(model) if fused else model)
    bound, _ = error_in_int8(trained_statistics(timm.create_model("resnet18", num_classes=0)))
    assert convolutions >= 24  # 8 of blocks, 16 of fields
    assert error < 2.0 * bound
