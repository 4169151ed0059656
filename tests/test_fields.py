"""Vector fields: weights and statistics of the right time, and PyTorch's own layers as witnesses."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from field_cases import features, randomize
from torch import nn

from odebackbones.errors import InputError
from odebackbones.fields.basis import basis_index
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.fields.conv import TimeConv2d
from odebackbones.fields.norms import NORMS, norm_layer
from odebackbones.fields.plain import ConvField, DepthwiseField
from odebackbones.fields.preactivated import PreactivatedField
from odebackbones.fields.residual import BasicField, BottleneckField
from odebackbones.ode.solvers import uniform_grid

FIELDS = {"basic": BasicField, "bottleneck": BottleneckField}


def test_step_i_of_n_falls_to_basis_i():
    for n in range(1, 301):
        assert [basis_index(i * (1 / n), n) for i in range(n)] == list(range(n))
        assert [basis_index(t, n) for t, _ in uniform_grid((0.0, 1.0), n)] == list(range(n))


def test_a_basis_holds_on_its_part_of_the_interval():
    for bases in (1, 2, 3, 4, 7, 10):
        for steps in (bases, 2 * bases, 6 * bases):
            assert [basis_index(i * (1 / steps), bases) for i in range(steps)] == [
                i * bases // steps for i in range(steps)
            ]


def test_a_border_belongs_to_the_part_that_it_opens():
    assert [basis_index(t, 4) for t in (0.0, 0.2499, 0.25, 0.4999, 0.5, 0.9999)] == [0, 0, 1, 1, 2, 3]


@pytest.mark.parametrize("bases", [1, 3, 8])
def test_times_at_and_beyond_the_ends_fall_to_the_end_bases(bases):
    assert [basis_index(t, bases) for t in (-0.5, -1e-9, 0.0)] == [0, 0, 0]
    assert [basis_index(t, bases) for t in (1.0, 1.0 + 1e-9, 1.5)] == [bases - 1] * 3


@pytest.mark.parametrize(("kernel_size", "groups", "dilation"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (5, 2, 3)])
def test_a_convolution_uses_the_weight_of_its_time(kernel_size, groups, dilation):
    conv = TimeConv2d(6, 4, kernel_size=kernel_size, bases=3, groups=groups, dilation=dilation)
    x = features()
    for t, k in ((0.0, 0), (0.33, 0), (1 / 3, 1), (0.5, 1), (2 / 3, 2), (1.0, 2)):
        expected = F.conv2d(x, conv.weight[k], padding="same", dilation=dilation, groups=groups)
        torch.testing.assert_close(conv(x, t), expected)
    assert not torch.allclose(conv(x, 0.0), conv(x, 0.5))


def test_a_convolution_starts_kaiming_normal_over_its_fan_out():
    torch.manual_seed(0)
    conv = TimeConv2d(64, 128, kernel_size=3, bases=2)
    for weight in conv.weight:
        assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
        assert abs(weight.mean().item()) < 1e-3
    assert not torch.equal(conv.weight[0], conv.weight[1])


@pytest.mark.parametrize("bases", [0, -1])
def test_a_field_without_weights_is_refused(bases):
    with pytest.raises(InputError, match=rf"bases={bases}: expected a whole number of at least 1"):
        norm_layer("batch", nodes=[0.0, 0.5], bases=bases)


def witness_branch(field, t):
    """The residual branch that ``field`` is at time ``t``, of PyTorch's own layers."""
    layers = []
    for i in (1, 2, 3) if isinstance(field, BottleneckField) else (1, 2):
        conv, norm = field.get_submodule(f"conv{i}"), field.get_submodule(f"norm{i}")
        k, node = basis_index(t, conv.bases), norm.nodes.index(t)
        weight = conv.weight[k]
        dilation, groups = conv.dilation, conv.groups
        layer = nn.Conv2d(
            weight.shape[1] * groups, weight.shape[0], weight.shape[2], 1, "same", dilation, groups, bias=False
        )
        bn = nn.BatchNorm2d(norm.channels)
        layer.weight.data, bn.weight.data, bn.bias.data = weight.data, norm.weight[k].data, norm.bias[k].data
        bn.running_mean, bn.running_var = norm.running_mean[node].clone(), norm.running_var[node].clone()
        layers += [layer, bn, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_the_residual_branch_of_its_time(name, dilation, training):
    norm = norm_layer("batch", nodes=[0.0, 0.5], bases=2)
    field = randomize(FIELDS[name](6, width=4, norm=norm, bases=2, dilation=dilation)).train(training)
    for t in (0.0, 0.5):
        branch = witness_branch(field, t).train(training)
        torch.testing.assert_close(field(t, features()), branch(features()))
    assert not torch.allclose(field(0.0, features()), field(0.5, features()))


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_leaves_its_state_as_it_was(name):
    field = FIELDS[name](6, width=4, norm=norm_layer("batch", nodes=[0.0], bases=1))
    x = features()
    field(0.0, x)
    assert torch.equal(x, features())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", FIELDS)
def test_zero_init_last_gives_the_zero_field(name, norm):
    nodes = [0.0, 0.5]
    field = FIELDS[name](32, width=32, norm=norm_layer(norm, nodes=nodes, bases=2), bases=2)
    x = features(channels=32)
    assert all(field(t, x).abs().max() > 0 for t in nodes)
    field.start_at_zero()
    assert all(torch.equal(field(t, x), torch.zeros_like(x)) for t in nodes)


BRANCHES = {
    "basic": partial(BasicField, width=32),
    "bottleneck": partial(BottleneckField, width=32),
    "basic, attention": partial(BasicField, width=32, attention=4),
    "conv": ConvField,
    "depthwise": DepthwiseField,
    "preactivated": PreactivatedField,
    "preactivated, no last norm": partial(PreactivatedField, last_norm=False),
}


@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, norm) for name in BRANCHES for norm in NORMS if "preactivated" not in name or norm != "none"],
)
def test_a_slope_is_multiplied_by_the_duration(name, norm):
    def slope(duration):
        field = BRANCHES[name](32, norm=norm_layer(norm, nodes=[0.0], bases=1))
        field.set_duration(duration)
        return randomize(field).eval()(0.0, features(channels=32))

    torch.testing.assert_close(slope(3.0), 3.0 * slope(1.0))


def test_a_bottleneck_field_takes_groups():
    field = BottleneckField(8, width=4, norm=norm_layer("batch", nodes=[0.0], bases=1), groups=2)
    assert field.conv2.weight[0].shape == (4, 2, 3, 3)
    assert field(0.0, features(channels=8)).shape == (4, 8, 5, 5)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (3, 2)])
def test_a_time_channel_is_one_more_input_channel_that_holds_the_time(kernel_size, dilation):
    conv = TimeConv2d(6, 5, kernel_size=kernel_size, dilation=dilation, bases=2, time_channel=True)
    x = features().requires_grad_()
    for t, k in ((0.3, 0), (0.8, 1)):
        weight = torch.cat([conv.weight[k], conv.time_weight[k]], dim=1)
        with_time = torch.cat([x, torch.full_like(x[:, :1], t)], dim=1)
        expected = F.conv2d(with_time, weight, padding=dilation * (kernel_size // 2), dilation=dilation)
        torch.testing.assert_close(conv(x, t), expected, rtol=1e-5, atol=1e-5)
        slopes = [torch.autograd.grad(y.square().sum(), [x, conv.time_weight[k]]) for y in (conv(x, t), expected)]
        for found, reference in zip(*slopes, strict=True):
            torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("field", [BasicField, BottleneckField])
def test_a_field_with_time_channels_changes_with_time(field):
    norm = norm_layer("frozen", nodes=[0.0, 1.0], bases=1)
    slopes = {}
    for time_channel in (False, True):
        made = field(6, width=4, norm=norm, time_channel=time_channel)
        slopes[time_channel] = [made(t, features()) for t in (0.25, 0.75)]
    assert torch.equal(*slopes[False]) and not torch.allclose(*slopes[True])


def test_statistics_move_to_other_times_by_linear_interpolation():
    norm = TimeBatchNorm2d(2, nodes=[0.0, 0.5])
    norm.set_statistics(0, torch.tensor([0.0, 10.0]), torch.tensor([1.0, 2.0]))
    norm.set_statistics(1, torch.tensor([1.0, 20.0]), torch.tensor([3.0, 4.0]))
    norm.set_times([0.0, 0.125, 0.5, 1.0])
    assert norm.nodes == [0.0, 0.125, 0.5, 1.0]
    torch.testing.assert_close(norm.running_mean, torch.tensor([[0.0, 10.0], [0.25, 12.5], [1.0, 20.0], [1.0, 20.0]]))
    torch.testing.assert_close(norm.running_var, torch.tensor([[1.0, 2.0], [1.5, 2.5], [3.0, 4.0], [3.0, 4.0]]))
    assert [type(node) for node in norm.norms] == 4 * [nn.BatchNorm2d]


@pytest.mark.parametrize("time_channel", [False, True])
def test_a_field_without_norms_scales_its_convolutions_and_adds_to_them(time_channel):
    torch.manual_seed(0)
    conv = TimeConv2d(3, 4, kernel_size=3, bases=2, time_channel=time_channel)
    norm = NORMS["none"]([0.0])(4, bases=2)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x, t = torch.randn(2, 3, 6, 6), 0.75
    before = x.clone()
    gain, offset = norm.affine(t)
    expected = conv(x, t) * gain[:, None, None] + offset[:, None, None]
    torch.testing.assert_close(norm(conv(x, t, norm.weight_gain(t)), t), expected)
    assert torch.equal(x, before)
    assert NORMS["group"]([0.0])(32).weight_gain(t) is None
