"""Norms whose gain, offset and statistics depend on time."""

import pytest
import torch
import torch.nn.functional as F
from field_cases import features, randomize
from torch import nn

from odebackbones.errors import InputError
from odebackbones.fields.batch_norm import TimeBatchNorm2d, freeze_norms
from odebackbones.fields.norms import NORMS, TimeGroupNorm, norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times, uniform_grid


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
