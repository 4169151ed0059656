"""When to keep a state and when to recompute it: binomial checkpointing.

A. Griewank, A. Walther: Algorithm 799: Revolve, ACM Trans. Math. Softw. 26, 2000
"""

import math
from functools import cache
from typing import NamedTuple

from odebackbones.errors import InputError, unknown_name

SNAPSHOT_RULES = {"every": lambda steps: steps, "sqrt": lambda steps: 2 + round(math.sqrt(steps))}
"""Name in ``checkpoints`` -> snapshots for a number of steps."""


def count_snapshots(checkpoints: str | int, steps: int) -> int:
    """The snapshots, of ``steps`` at most, that a solve may hold at one time.

    Raises:
        InputError: ``checkpoints`` is neither a known word nor a whole number of at least 1.
    """
    if isinstance(checkpoints, str):
        if checkpoints not in SNAPSHOT_RULES:
            raise unknown_name("value of checkpoints", checkpoints, [*SNAPSHOT_RULES, "a whole number"])
        return min(steps, SNAPSHOT_RULES[checkpoints](steps))
    if isinstance(checkpoints, bool) or not isinstance(checkpoints, int) or checkpoints < 1:
        raise InputError(f"checkpoints={checkpoints!r}: expected 'every', 'sqrt', or a whole number of at least 1")
    return min(steps, checkpoints)


def next_snapshot(steps: int, snapshots: int) -> int:
    r"""How far after a kept state to keep the next one, to reverse ``steps`` steps with the fewest recomputations.

    With c snapshots and no step recomputed more than r times, :math:`\beta(c, r) = \binom{c + r}{c}` steps can be
    reversed.

    Args:
        steps: Steps after the kept state, at least 2.
        snapshots: Snapshots in all, that of the kept state included, at least 2.
    """
    repeats = 1
    while math.comb(snapshots + repeats, snapshots) < steps:
        repeats += 1
    reach = math.comb(snapshots + repeats - 1, snapshots)
    rest = math.comb(snapshots + repeats - 2, snapshots - 1)
    return max(1, min(reach, steps - rest))


@cache
def first_snapshots(steps: int, snapshots: int) -> tuple[int, ...]:
    """The steps at whose start the forward pass keeps the state, ascending; the first one is 0."""
    kept = [0]
    while len(kept) < snapshots and steps - kept[-1] > 1:
        kept.append(kept[-1] + next_snapshot(steps - kept[-1], snapshots - len(kept) + 1))
    return tuple(kept)


class Advance(NamedTuple):
    """Evaluate the steps from the latest kept state, at the start of step ``start``, to that of step ``target``."""

    start: int
    target: int
    keep: bool
    """Whether to keep the state found; if not, it only serves the step that is reversed next."""


@cache
def reversal(steps: int, snapshots: int) -> tuple[tuple[int, tuple[Advance, ...]], ...]:
    """The steps from the last to the first, each with what to evaluate to get at its start.

    A kept state is given up when the step that it starts is reversed.
    """
    kept, plan = list(first_snapshots(steps, snapshots)), []
    for step in reversed(range(steps)):
        advances = []
        while kept[-1] < step and len(kept) < snapshots:
            kept.append(kept[-1] + next_snapshot(step + 1 - kept[-1], snapshots - len(kept) + 1))
            advances.append(Advance(kept[-2], kept[-1], keep=True))
        if kept[-1] < step:
            advances.append(Advance(kept[-1], step, keep=False))
        else:
            kept.pop()
        plan.append((step, tuple(advances)))
    return tuple(plan)


@cache
def count_evaluations(steps: int, snapshots: int) -> tuple[int, ...]:
    """How often the backward pass evaluates each step: once with a graph, and to get at later states."""
    counts = [0] * steps
    for step, advances in reversal(steps, snapshots):
        counts[step] += 1
        for start, target, _ in advances:
            for i in range(start, target):
                counts[i] += 1
    return tuple(counts)
