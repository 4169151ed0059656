"""Results of a benchmark part: tables, and measured numbers with the bounds that they are promised to keep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import process_time
from typing import Any

from engine.report.records import Curve, Table


@dataclass(frozen=True)
class Claim:
    """A measured number with its bound.

    Attributes:
        what: What was measured.
        value: The number.
        bound: Bound on the number.
        at_least: Whether the bound is a lower bound.
    """

    what: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the number keeps its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'holds' if self.holds else 'FAILS'}: {self.what}: {self.value:.4g} (bound {sign} {self.bound:g})"


@dataclass(frozen=True)
class Part:
    """Results of one benchmark part."""

    tables: tuple[Table, ...]
    claims: tuple[Claim, ...] = ()
    curves: tuple[Curve, ...] = ()


def times_over(
    reference: str, calls: Mapping[str, Callable[[], Any]], *, rounds: int, clock: Callable[[], float] = process_time
) -> tuple[dict[str, float], float]:
    """Return times relative to the reference call: medians of the ratios to its runs right before and after.

    Adjacent calls see the same machine load. One extra round comes first, to warm up.

    Returns:
        The ratios of all calls, and the reference's median time [s].
    """

    def time_call(call: Callable[[], Any]) -> float:
        start = clock()
        call()
        return clock() - start

    others = {name: call for name, call in calls.items() if name != reference}
    ratios: dict[str, list[float]] = {name: [] for name in others}
    references: list[float] = []
    for i in range(rounds + 1):
        before = time_call(calls[reference])
        for name, call in others.items():
            own, after = time_call(call), time_call(calls[reference])
            if i:
                ratios[name].append(2 * own / (before + after))
                references.append(after)
            before = after
    return {reference: 1.0, **{name: median(found) for name, found in ratios.items()}}, median(references)
