"""Checkpoint schedules: no more snapshots than allowed, no more evaluations than needed, and memory as promised."""

import math
from functools import cache

import pytest
import torch
from solver_variants import FIXED_POINT, VARIANTS, solver_config
from torch import nn
from trained_fields import CHANNELS, RANDOM, STEPS, ConvField, Problem, images, make

from engine.measure.profile import peak_memory_mib
from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, SolverStats, odeint
from odebackbones.ode.schedule import Capacity, capacity, count_evaluations, first_snapshots, reversal

SIZES = [(steps, snapshots) for steps in range(1, 41) for snapshots in range(1, min(steps, 9) + 1)]


class CountingField(nn.Module):
    """A linear field that counts its evaluations."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(-0.7))
        self.times = []  # a number would be put back after the backward pass

    def forward(self, t, x):
        self.times.append(t)
        return self.rate * x


@cache
def fewest_advances(steps, snapshots):
    """The least steps to go forward in reversing ``steps`` steps, one of the snapshots being that of their start."""
    if steps == 1 or snapshots == 1:
        return steps * (steps - 1) // 2
    return min(m + fewest_advances(steps - m, snapshots - 1) + fewest_advances(m, snapshots) for m in range(1, steps))


@cache
def fewest_after_a_forward_pass(steps, snapshots):
    """As above, where a pass over all the steps has come by already and left the snapshots."""
    if steps == 1 or snapshots == 1:
        return steps * (steps - 1) // 2
    return min(
        fewest_after_a_forward_pass(steps - m, snapshots - 1) + fewest_advances(m, snapshots) for m in range(1, steps)
    )


def test_no_schedule_evaluates_fewer_steps():
    for steps, snapshots in SIZES:
        found = sum(count_evaluations(steps, Capacity(snapshots)))
        assert found == steps + fewest_after_a_forward_pass(steps, snapshots), (steps, snapshots)


@pytest.mark.parametrize("snapshots", [1, 2, 3, 5])
def test_as_many_steps_as_the_binomial_coefficient_take_few_recomputations_each(snapshots):
    for repeats in (1, 2, 3):  # Griewank and Walther: with c snapshots and r repetitions, (c + r)! / (c! r!) steps
        counts = count_evaluations(math.comb(snapshots + repeats, snapshots), Capacity(snapshots))
        assert max(counts) <= repeats + 1
    assert max(count_evaluations(math.comb(snapshots + 2, snapshots) + 1, Capacity(snapshots))) > 2


@pytest.mark.parametrize("graphs", [1, 2, 3])
def test_a_schedule_reverses_every_step_from_a_state_that_it_keeps(graphs):
    for steps, snapshots in SIZES:
        allowed = Capacity(snapshots, graphs)
        kept = list(first_snapshots(steps, allowed))
        assert kept[0] == 0 and len(kept) <= snapshots
        reversed_steps = []
        for segment, advances in reversal(steps, allowed):
            at = kept[-1]
            for start, target, keep in advances:
                assert start == at < target, (steps, snapshots)
                at = target
                if keep:
                    kept.append(at)
            assert at == segment[0] and len(kept) <= snapshots and len(segment) <= graphs, (steps, snapshots)
            reversed_steps += reversed(segment)
            if kept[-1] == segment[0]:
                kept.pop()
        assert reversed_steps == list(range(steps))[::-1]
        assert not kept


def test_known_schedules():
    assert first_snapshots(5, Capacity(5)) == (0, 1, 2, 3, 4)
    assert count_evaluations(5, Capacity(5)) == (1, 1, 1, 1, 1)
    assert count_evaluations(4, Capacity(1)) == (4, 3, 2, 1)
    assert reversal(2, Capacity(1)) == ((range(1, 2), ((0, 1, False),)), (range(1), ()))
    assert first_snapshots(5, Capacity(2, graphs=2)) == (0, 2)
    assert reversal(5, Capacity(2, graphs=2)) == ((range(4, 5), ((2, 4, False),)), (range(2, 4), ()), (range(2), ()))


def test_a_second_graph_saves_evaluations():
    assert sum(count_evaluations(64, Capacity(10))) == 64 + 54
    assert sum(count_evaluations(64, Capacity(10, graphs=2))) == 64 + 2 * 22


def test_checkpoints_are_a_rule_or_a_number_of_snapshots():
    assert [capacity(rule, 64) for rule in ("every", "sqrt", 5, 100)] == [(64, 1), (10, 2), (5, 1), (100, 1)]
    assert [capacity("sqrt", steps).snapshots for steps in (1, 2, 9, 16)] == [3, 3, 5, 6]
    assert first_snapshots(4, capacity(100, 4)) == (0, 1, 2, 3)


@pytest.mark.parametrize("checkpoints", [0, -1, True, 2.0, None])
def test_checkpoints_that_count_nothing_are_refused(checkpoints):
    with pytest.raises(InputError, match=rf"checkpoints={checkpoints!r}: expected 'every', 'sqrt', or a whole number"):
        SolverConfig(checkpoints=checkpoints)


def test_an_unknown_rule_is_refused_with_the_near_ones():
    with pytest.raises(InputError, match=r"unknown value of checkpoints 'squrt'; did you mean 'sqrt'\?"):
        SolverConfig(checkpoints="squrt")


@pytest.mark.parametrize("checkpoints", ["every", "sqrt", 4, 1])
@pytest.mark.parametrize("variant", VARIANTS | FIXED_POINT)
def test_the_promised_evaluations_are_what_a_counting_field_counts(variant, checkpoints):
    field, solver = CountingField(), solver_config(variant, 12, checkpoints=checkpoints)
    end, stats = Problem(field, solver)(torch.ones(2, 3))
    forward = len(field.times)
    end.sum().backward()
    assert stats == SolverStats(nfe=forward, nfe_backward=len(field.times) - forward, steps=12)
    assert (stats.nfe_backward == forward) == (checkpoints == "every")


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", ["every", "sqrt", 4, 1])
@pytest.mark.parametrize("name", ["BatchNorm2d", *RANDOM])
@pytest.mark.parametrize("variant", ["midpoint", "ab3", "alf", "lm", "reversible_heun in int32"])
def test_a_second_backward_pass_gives_the_same_gradients(variant, name, checkpoints):
    field, x = make(name), images().requires_grad_()
    solver = solver_config(variant, STEPS, checkpoints=checkpoints)
    problem = Problem(field, solver)
    wanted = (x, *problem.parameters())
    torch.manual_seed(7)
    end, _ = problem(x)
    buffers, random_state = [b.clone() for b in field.buffers()], torch.get_rng_state()
    loss = end.square().sum()
    first, second, third = (torch.autograd.grad(loss, wanted, retain_graph=retain) for retain in (True, True, False))
    for gradients in zip(first, second, third, strict=True):
        assert torch.equal(*gradients[:2]) and torch.equal(*gradients[1:])
    assert all(torch.equal(*pair) for pair in zip(buffers, field.buffers(), strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)


SIZE = 16
STATE_MIB = 3 * CHANNELS * SIZE**2 * 4 / 2**20


def peak_in_states(solver):
    """Peak memory of a forward and backward pass, in units of one state."""
    torch.manual_seed(0)
    field, x = ConvField(nn.GroupNorm(2, 6)), images(size=SIZE).requires_grad_()

    def call():
        odeint(field, x, solver=solver).state.sum().backward()
        x.grad = None
        field.zero_grad()

    call()  # what is allocated once and for all
    return peak_memory_mib(call, torch.device("cpu")) / STATE_MIB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "checkpoints", "steps", "more_states"),
    [
        ("midpoint", "every", (4, 64), 60),
        ("midpoint", "sqrt", (16, 64), 4),
        ("midpoint", 4, (16, 64), 0),
        ("midpoint", 1, (8, 24), 0),
        ("ab3", "every", (16, 64), 2 * 48),  # a state and a slope a step
        ("ab3", 4, (64, 128), 0),
        ("leapfrog", "every", (16, 64), 48),  # neighboring pairs share a tensor
        ("leapfrog", 4, (64, 128), 0),
    ],
)
def test_the_memory_grows_by_the_snapshots_and_nothing_else(method, checkpoints, steps, more_states):
    few, many = (peak_in_states(SolverConfig(method, n, checkpoints=checkpoints)) for n in steps)
    assert many - few == pytest.approx(more_states, abs=1.1)


def test_backprop_keeps_every_activation():
    few, many = (peak_in_states(SolverConfig("midpoint", steps, "backprop")) for steps in (4, 64))
    assert many - few > 5 * 60


def largest_graph(field, steps, checkpoints="every"):
    """The most elements that recomputed graphs hold at any time of a backward pass."""
    held = [0]  # after each saving and each release

    def save(tensor):
        held.append(held[-1] + tensor.numel())
        return tensor

    def release(tensor):
        held.append(held[-1] - tensor.numel())
        return tensor

    end = odeint(field, images(), solver=SolverConfig("midpoint", steps, checkpoints=checkpoints)).state
    with torch.autograd.graph.saved_tensors_hooks(save, release):
        end.sum().backward()
    return max(held)


def test_a_backward_pass_holds_the_graphs_of_few_steps_at_a_time():
    field = make("convolutions")
    assert largest_graph(field, 8) == largest_graph(field, 2) > 0
    assert largest_graph(field, 16, "sqrt") == largest_graph(field, 4, "sqrt") == 2 * largest_graph(field, 2)
