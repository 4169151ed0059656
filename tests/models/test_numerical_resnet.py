"""Numerical networks: the scheme is the network. Every network is written out, block by block, as its paper has it."""

import pytest
import timm
import torch
from torch import nn

from odebackbones import ode_blocks, solver_stats
from odebackbones.fields.batch_norm import TimeBatchNorm2d

SMALL = {"channels": (8, 16, 24, 32), "num_classes": 5, "zero_init_last": False}
NAMES = ["lm_resnet50", "poly_resnet50", "fractal_resnet50", "rev_resnet50", "augmented_ode_resnet50"]
REPLACED = [2, 3, 5, 2]


def create(name, **kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, **{**SMALL, **kwargs}).double().eval()
    for module in model.modules():
        if isinstance(module, TimeBatchNorm2d):
            for norm in module.norms:
                nn.init.normal_(norm.running_mean, std=0.2)
                nn.init.uniform_(norm.running_var, 0.3, 0.9)
            for gain in module.weight:
                nn.init.uniform_(gain, 0.3, 0.9)
    return model


def branches(field, count):
    """Plain residual branches, one for each of the field's weights, as the networks of the papers have them."""

    def branch(k):
        layers = []
        for conv, norm in field.layers():
            out, within, size, _ = conv.weight[k].shape
            plain = nn.Conv2d(within, out, size, padding=size // 2, bias=False)
            affine = nn.BatchNorm2d(out).eval()
            plain.weight, affine.weight, affine.bias = conv.weight[k], norm.weight[k], norm.bias[k]
            affine.running_mean, affine.running_var = norm.running_mean[k], norm.running_var[k]
            layers += [plain, affine, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return [branch(k) for k in range(count)]


def lm(block, x, n):
    f, previous = branches(block.field, n), x
    nn.init.uniform_(block.method.coefficients, -0.5, 0.8)
    for k, branch in zip(block.method.coefficients.tolist(), f, strict=True):
        x, previous = (1 - k) * x + k * previous + branch(x) / n, x
    return x


def poly(block, x, n):
    for branch in branches(block.field, n):
        once = branch(x) / n
        x = x + once + branch(once) / n
    return x


def fractal(block, x, n):
    f = branches(block.field, 2 * n)
    for first, second in zip(f[::2], f[1::2], strict=True):
        k1, k2, k3 = 1.0, 0.0, 1.0
        inner = k3 * x + first(x) / (2 * n)
        x = k1 * x + k2 * inner + second(inner) / n
    return x


def rev(block, x, n):
    f = branches(block.field, n)
    x1, x2 = x, x + f[0](x) / n
    for branch in f[1:]:  # RevNet's two streams change their roles
        x1, x2 = x2, x1 + 2 * branch(x2) / n
    return x2


@pytest.mark.parametrize(("name", "network"), list(zip(NAMES, [lm, poly, fractal, rev], strict=False)))
def test_the_solver_is_the_network(name, network):
    model = create(name)
    for block, n, channels in zip(ode_blocks(model), REPLACED, (32, 64, 96, 128), strict=True):
        x = torch.randn(2, channels, 6, 6, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(network(block, x, n), block(x), rtol=1e-9, atol=1e-9)


def test_an_augmented_network_flows_in_more_channels_than_it_shows():
    model = create("augmented_ode_resnet50")
    for block, channels in zip(ode_blocks(model), (32, 64, 96, 128), strict=True):
        assert block.field.conv1.weight[0].shape[1] == channels + 16
        assert block(torch.randn(1, channels, 4, 4, dtype=torch.float64)).shape[1] == channels


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_listed_learns_and_has_the_resnets_depth(name):
    assert name in timm.list_models("*_resnet*")
    model = create(name).train()
    model(torch.randn(2, 3, 64, 64, dtype=torch.float64)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    factor = {"poly_resnet50": 2, "fractal_resnet50": 2}.get(name, 1)
    expected = [2, 4, 6, 2] if name.startswith("augmented") else [factor * n for n in REPLACED]
    assert [s.nfe for s in solver_stats(model).values()] == expected


@pytest.mark.parametrize("name", ["lm_resnet50", "poly_resnet50", "rev_resnet50"])
def test_a_network_with_a_branch_a_block_has_the_resnets_parameters(name):
    with torch.device("meta"):
        ours, resnet = timm.create_model(name), timm.create_model("resnet50")
    coefficients = sum(REPLACED) if name == "lm_resnet50" else 0
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in resnet.parameters()) + coefficients
