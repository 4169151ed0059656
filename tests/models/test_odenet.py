"""Chen et al.'s networks: the paper's sizes, and that their ResNet is one of the family."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from odebackbones import InputError, solver_stats

RESNET = {"solver": "euler", "steps": 6, "bases": 6, "duration": 6, "time_channel": False, "last_norm": False}
RK_NET = {"solver": "rk4", "gradient": "backprop"}
ODE_NET = {"solver": "dopri5", "gradient": "adjoint"}


def create(name="odenet_mnist", **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, **kwargs)


def images(size=28, channels=1):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


# arXiv:1806.07366, table 1 [millions]; the ODE-Net has 0.23 with residual downsampling, which the ResNet's 0.60 are of,
# and with convolutions 0.21: the paper's 0.22 are of neither.
@pytest.mark.parametrize(("row", "millions"), [(RESNET, 0.60), (RK_NET, 0.22), (ODE_NET, 0.22)])
def test_the_parameters_are_the_papers(row, millions):
    assert sum(p.numel() for p in create(**row).parameters()) / 1e6 == pytest.approx(millions, abs=0.013)


def test_downsampling_by_convolutions_is_their_other_one():
    """torchdiffeq's examples/odenet_mnist.py, ``--downsampling-method conv``, with this model's weights."""
    model = create(**RK_NET, downsampling="conv").eval()
    first, second = (nn.Conv2d(64, 64, 4, 2, 1) for _ in range(2))
    for conv, down in ((first, model.down1), (second, model.down2)):
        conv.load_state_dict(down.conv.state_dict())
    theirs = [nn.GroupNorm(32, 64), nn.ReLU(), first, nn.GroupNorm(32, 64), nn.ReLU(), second]
    (features,) = model.forward_intermediates(images(), [1], intermediates_only=True)
    expected = nn.Sequential(*theirs[:3])(model.conv1(images()))
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(model.down2(features), nn.Sequential(*theirs[3:])(expected))
    assert features.shape == (2, 64, 14, 14)


def test_unknown_downsampling_is_refused():
    with pytest.raises(InputError, match="unknown downsampling 'convolution'; did you mean 'conv'"):
        create(downsampling="convolution")


def their_resnet(model):
    """torchdiffeq's examples/odenet_mnist.py, written out: its ResBlocks, with this model's weights."""

    def branch(x, norm1, conv1, norm2, conv2):
        return conv2(F.relu(norm2(conv1(F.relu(norm1(x))))))

    def forward(x):
        x = model.conv1(x)
        for down in (model.down1, model.down2):
            y = branch(x, down.norm1, down.conv1, down.norm2, down.conv2)
            x = y + down.shortcut(F.relu(down.norm1(x)))
        field = model.flow[0].field
        for k in range(6):
            t = k / 6
            norms = [nn.GroupNorm(32, 64) for _ in range(2)]
            for norm, own in zip(norms, (field.norm1, field.norm2), strict=True):
                norm.weight, norm.bias = own.weight[k], own.bias[k]
            x = x + branch(x, norms[0], field.conv1.at(t), norms[1], field.conv2.at(t))
        return model.fc(F.relu(model.norm(x)).mean(dim=(2, 3)))

    return forward


def test_six_bases_and_six_euler_steps_are_their_resnet():
    model = create(**RESNET).eval()
    for k, weight in enumerate(model.flow[0].field.norm1.weight):
        nn.init.constant_(weight, 1.0 + k)
    torch.testing.assert_close(their_resnet(model)(images()), model(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", [RESNET, RK_NET, {"solver": "dopri5"}], ids=["ResNet", "RK-Net", "exact ODE-Net"])
@pytest.mark.parametrize(("name", "shape"), [("odenet_mnist", (28, 1)), ("odenet_cifar", (32, 3))])
def test_every_parameter_gets_a_gradient(name, shape, row):
    model = create(name, **row)
    logits = model(images(*shape))
    F.cross_entropy(logits, torch.tensor([3, 4])).backward()
    assert logits.shape == (2, 10)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


def test_the_evaluations_are_at_least_those_of_their_six_blocks():
    assert solver_stats(create())["flow.0"].nfe == 8
    assert solver_stats(create(solver="euler"))["flow.0"].nfe == 6


@pytest.mark.parametrize("last_norm", [True, False])
def test_a_model_may_start_from_the_zero_field(last_norm):
    model = create(zero_init_last=True, last_norm=last_norm, **RK_NET)
    x = torch.randn(2, 64, 7, 7)
    assert torch.equal(model.flow(x), x)


def test_features_and_head_are_what_timm_expects():
    model, features = create().eval(), create(features_only=True).eval()
    assert features.feature_info.reduction() == [1, 2, 4]
    maps = features(images())
    end, intermediates = model.forward_intermediates(images())
    for mine, expected in zip(intermediates, maps, strict=True):
        torch.testing.assert_close(mine, expected)
    assert torch.equal(end, model.forward_features(images()))
    assert torch.equal(model.forward_head(end), model(images()))
    model.reset_classifier(0)
    assert model(images()).shape == (2, 64)
    model.prune_intermediate_layers([0, 1])
    assert torch.equal(model.forward_intermediates(images(), 2, intermediates_only=True)[1], intermediates[1])


def test_a_batch_norm_model_has_statistics_per_time():
    model = create(norm="batch", **RK_NET)
    assert model.flow[0].field.norm1.running_mean.shape[0] == len(model.flow[0].field.norm1.nodes) > 2


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"norm": "frozen"}, r"unknown norm 'frozen'; known: batch, group"),
        ({"step": 2}, r"unknown argument 'step'; did you mean 'steps'"),
        ({"steps": (1, 2)}, r"steps=\(1, 2\): expected one whole number, or a list of 1"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(kwargs, message):
    with pytest.raises(InputError, match=message):
        create(**kwargs)
