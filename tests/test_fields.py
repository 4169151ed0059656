"""Vector fields: weights and statistics of the right time, and PyTorch's own layers as witnesses."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from odebackbones.errors import InputError
from odebackbones.fields.basis import basis_index
from odebackbones.fields.batch_norm import TimeBatchNorm2d, freeze_norms
from odebackbones.fields.conv import TimeConv2d
from odebackbones.fields.norms import NORMS, TimeGroupNorm, norm_layer
from odebackbones.fields.plain import ConvField, DepthwiseField
from odebackbones.fields.preactivated import PreactivatedField
from odebackbones.fields.residual import BasicField, BottleneckField
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times, uniform_grid

FIELDS = {"basic": BasicField, "bottleneck": BottleneckField}


def features(seed=0, channels=6, batch=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(batch, channels, 5, 5, generator=generator, dtype=dtype) + 0.5


def randomize(module, seed=0):
    """Give every parameter and running statistic a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


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


def test_one_node_and_one_basis_are_batchnorm2d_in_training_and_evaluation():
    ours, theirs = TimeBatchNorm2d(6, nodes=[0.0]), nn.BatchNorm2d(6)
    with torch.no_grad():
        theirs.weight.copy_(torch.linspace(0.5, 2.0, 6))
        theirs.bias.copy_(torch.linspace(-1.0, 1.0, 6))
        ours.weight[0].copy_(theirs.weight)
        ours.bias[0].copy_(theirs.bias)
    for seed in range(3):
        assert torch.equal(ours(features(seed), 0.0), theirs(features(seed)))
    assert torch.equal(ours.running_mean, theirs.running_mean[None])
    assert torch.equal(ours.running_var, theirs.running_var[None])
    ours.eval(), theirs.eval()
    assert torch.equal(ours(features(9), 0.0), theirs(features(9)))
    assert torch.equal(ours.running_mean, theirs.running_mean[None])


def test_the_statistics_of_an_evaluated_node_alone_are_updated():
    norm, witness = TimeBatchNorm2d(6, nodes=[0.0, 0.25, 0.5]), nn.BatchNorm2d(6)
    norm(features(), 0.25)
    witness(features())
    assert torch.equal(norm.running_mean[1], witness.running_mean)
    assert torch.equal(norm.running_var[1], witness.running_var)
    for untouched in (0, 2):
        assert torch.equal(norm.running_mean[untouched], torch.zeros(6))
        assert torch.equal(norm.running_var[untouched], torch.ones(6))


@pytest.mark.parametrize(("t", "node"), [(0.1, 0), (0.15, 1), (0.3, 1), (0.4, 2), (-1.0, 0), (7.0, 2)])
def test_between_the_nodes_training_updates_the_nearest(t, node):
    norm = TimeBatchNorm2d(6, nodes=[0.0, 0.25, 0.5])
    norm(features(), t)
    assert (norm.running_mean != 0).any(dim=1).nonzero().flatten().tolist() == [node]


@pytest.mark.parametrize(
    ("t", "weights"),
    [
        (0.0, (1.0, 0.0, 0.0)),
        (0.1, (0.5, 0.5, 0.0)),
        (0.2, (0.0, 1.0, 0.0)),
        (0.65, (0.0, 0.25, 0.75)),
        (0.8, (0.0, 0.0, 1.0)),
        (1.0, (0.0, 0.0, 1.0)),
        (-0.3, (1.0, 0.0, 0.0)),
    ],
)
def test_between_the_nodes_evaluation_interpolates_the_statistics(t, weights):
    norm = randomize(TimeBatchNorm2d(6, nodes=[0.0, 0.2, 0.8])).eval()
    mean, var = torch.tensor(weights) @ norm.running_mean, torch.tensor(weights) @ norm.running_var
    expected = F.batch_norm(features(), mean, var, norm.weight[0], norm.bias[0])
    torch.testing.assert_close(norm(features(), t), expected)


@pytest.mark.parametrize("steps", [1, 3, 7, 10])
@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4"])
def test_every_time_of_a_solve_is_a_node(method, steps):
    solver = SolverConfig(method, steps)
    norm = TimeBatchNorm2d(1, nodes=evaluation_times(solver))
    for t, h in uniform_grid((0.0, 1.0), steps):
        index, fraction = norm.locate(t + 0.5 * h if method == "midpoint" else t)
        assert fraction == 0.0
        assert norm.nodes[index] == pytest.approx(t + 0.5 * h if method == "midpoint" else t)


def test_without_tracking_the_batch_is_normalized_and_not_counted():
    tracking, untracking = (randomize(TimeBatchNorm2d(6, nodes=[0.0, 0.5])) for _ in range(2))
    untracking.norms[1].track_running_stats = False
    before = untracking.running_mean.clone()
    assert torch.equal(tracking(features(), 0.5), untracking(features(), 0.5))
    assert torch.equal(untracking.running_mean, before)
    assert not torch.equal(tracking.running_mean, before)


def test_a_frozen_norm_uses_its_running_statistics_and_trains_nothing():
    frozen = randomize(TimeBatchNorm2d(6, nodes=[0.0, 0.5], frozen=True)).train()
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    expected = F.batch_norm(
        features(), before["norms.1.running_mean"], before["norms.1.running_var"], frozen.weight[0], frozen.bias[0]
    )
    assert torch.equal(frozen(features(), 0.5), expected)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(torch.equal(value, before[key]) for key, value in frozen.state_dict().items())


def test_freezing_a_model_freezes_timms_norms_and_ours_where_they_stand():
    nodes = [0.0, 0.5]
    field = BasicField(6, width=4, norm=norm_layer("batch", nodes=nodes, bases=1))
    model = randomize(nn.ModuleDict({"stem": nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)), "field": field}))
    before = {k: v.clone() for k, v in model.eval().state_dict().items() if not k.endswith("num_batches_tracked")}
    expected = field(0.5, model["stem"](features()))
    frozen = freeze_norms(model).train()
    torch.testing.assert_close(frozen["field"](0.5, frozen["stem"](features())), expected)
    assert all(torch.equal(value, frozen.state_dict()[key]) for key, value in before.items())
    trained = {key for key, parameter in frozen.named_parameters() if parameter.requires_grad}
    assert trained == {"stem.0.weight", "stem.0.bias", "field.conv1.weight.0", "field.conv2.weight.0"}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_norm_uses_the_affine_map_of_its_time(norm):
    layer = randomize(norm_layer(norm, nodes=[0.0, 0.5], bases=2)(32)).eval()
    x = features(channels=32)
    for t, k in ((0.0, 0), (0.5, 1)):
        gain, offset = layer.affine(t)
        assert gain is layer.weight[k] and offset is layer.bias[k]
        plain = norm_layer(norm, nodes=[0.0, 0.5], bases=1)(32).eval()
        if norm == "batch":
            plain.norms.load_state_dict(layer.norms.state_dict())
        expected = plain(x, t) * layer.weight[k][:, None, None] + layer.bias[k][:, None, None]
        torch.testing.assert_close(layer(x, t), expected)


def test_one_basis_is_groupnorm():
    ours, theirs = TimeGroupNorm(6, groups=3), nn.GroupNorm(3, 6)
    with torch.no_grad():
        theirs.weight.copy_(torch.linspace(0.5, 2.0, 6))
        theirs.bias.copy_(torch.linspace(-1.0, 1.0, 6))
        ours.weight[0].copy_(theirs.weight)
        ours.bias[0].copy_(theirs.bias)
    assert torch.equal(ours(features(), 0.7), theirs(features()))


def test_an_unknown_norm_is_refused_with_the_near_names():
    with pytest.raises(InputError, match=r"unknown norm 'bach'; did you mean 'batch'\?"):
        norm_layer("bach", nodes=[0.0], bases=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("nodes", "bases", "idle"), [([0.0, 0.5], 3, 2), ([0.0], 2, 1), ([0.5], 2, 0)])
def test_a_basis_that_no_evaluation_reaches_is_refused(norm, nodes, bases, idle):
    with pytest.raises(InputError, match=rf"bases={bases}: .*evaluates at {len(nodes)} times.* bases \[{idle}\]"):
        norm_layer(norm, nodes=nodes, bases=bases)


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
