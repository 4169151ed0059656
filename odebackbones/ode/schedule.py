"""When to keep a state and when to recompute it: binomial checkpointing.

A. Griewank, A. Walther: Algorithm 799: Revolve, ACM Trans. Math. Softw. 26, 2000
"""

import math
from functools import cache
from itertools import chain
from typing import NamedTuple

from odebackbones.checks import is_whole
from odebackbones.errors import InputError, unknown_name


class Capacity(NamedTuple):
    """The numbers of snapshots and graphs that a backward pass may hold at one time."""

    snapshots: int
    """Number of kept states."""
    graphs: int = 1
    """Number of graphs of consecutive steps, which are evaluated together, one after another."""


CAPACITIES = {
    "every": lambda steps: Capacity(steps),
    "sqrt": lambda steps: Capacity(2 + round(math.sqrt(steps)), graphs=2),  # a second graph saves more than its memory
}
"""Name in ``checkpoints`` -> capacity for a number of steps."""


def capacity(checkpoints: str | int, steps: int) -> Capacity:
    """Return the capacity of a solve: a number in ``checkpoints`` is the number of snapshots, with one graph.

    Raises:
        InputError: ``checkpoints`` is neither a known word nor a whole number of at least 1.
    """
    if isinstance(checkpoints, str):
        if checkpoints not in CAPACITIES:
            raise unknown_name("value of checkpoints", checkpoints, [*CAPACITIES, "a whole number"])
        return CAPACITIES[checkpoints](steps)
    if not is_whole(checkpoints):
        raise InputError(f"checkpoints={checkpoints!r}: expected 'every', 'sqrt', or a whole number of at least 1")
    return Capacity(checkpoints)


def next_snapshot(steps: int, snapshots: int) -> int:
    r"""Return after how many steps to keep the next state, to reverse ``steps`` steps with the fewest recomputations.

    With c snapshots and no step recomputed more than r times, :math:`\beta(c, r) = \binom{c + r}{c}` steps can be
    reversed.

    Args:
        steps: Steps after the kept state, at least 2.
        snapshots: Total number of snapshots, including the kept state, at least 2.
    """
    repeats = 1
    while math.comb(snapshots + repeats, snapshots) < steps:
        repeats += 1
    reach = math.comb(snapshots + repeats - 1, snapshots)
    rest = math.comb(snapshots + repeats - 2, snapshots - 1)
    return max(1, min(reach, steps - rest))


@cache
def first_snapshots(steps: int, allowed: Capacity) -> tuple[int, ...]:
    """The steps at whose start the forward pass keeps the state, ascending; the first one is 0."""
    segments = math.ceil(steps / allowed.graphs)
    kept = [0]
    while len(kept) < allowed.snapshots and segments - kept[-1] > 1:
        kept.append(kept[-1] + next_snapshot(segments - kept[-1], allowed.snapshots - len(kept) + 1))
    return tuple(segment * allowed.graphs for segment in kept)


class Advance(NamedTuple):
    """The evaluation of steps from the latest kept state, at the start of ``start``, to the start of ``target``."""

    start: int
    target: int
    keep: bool
    """Whether to keep the resulting state; if not, it only serves the steps that are reversed next."""


@cache
def reversal(steps: int, allowed: Capacity) -> tuple[tuple[range, tuple[Advance, ...]], ...]:
    """The segments from the last to the first, each with the evaluations that lead to its start.

    A segment has as many steps as graphs are allowed; a kept state is dropped when the segment that it starts is
    reversed.
    """
    size = allowed.graphs
    kept, plan = [start // size for start in first_snapshots(steps, allowed)], []
    for segment in reversed(range(math.ceil(steps / size))):
        advances = []
        while kept[-1] < segment and len(kept) < allowed.snapshots:
            kept.append(kept[-1] + next_snapshot(segment + 1 - kept[-1], allowed.snapshots - len(kept) + 1))
            advances.append(Advance(kept[-2] * size, kept[-1] * size, keep=True))
        if kept[-1] < segment:
            advances.append(Advance(kept[-1] * size, segment * size, keep=False))
        else:
            kept.pop()
        plan.append((range(segment * size, min((segment + 1) * size, steps)), tuple(advances)))
    return tuple(plan)


@cache
def count_evaluations(steps: int, allowed: Capacity) -> tuple[int, ...]:
    """Count how often the backward pass evaluates each step: once with a graph, and to reach later states."""
    counts = [0] * steps
    for segment, advances in reversal(steps, allowed):
        for i in chain(segment, *(range(start, target) for start, target, _ in advances)):
            counts[i] += 1
    return tuple(counts)
