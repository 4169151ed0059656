"""What a part of the benchmark brings back: tables, and numbers with the bounds that they were promised to keep."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import process_time
from typing import Any

from odebackbones.engine.report import Curve, Table


@dataclass(frozen=True)
class Claim:
    """A measured number beside its bound.

    Attributes:
        what: What was measured.
        value: The number.
        bound: Its bound.
        at_least: Whether the bound is a lower one.
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
    """The outcome of one part."""

    tables: tuple[Table, ...]
    claims: tuple[Claim, ...] = ()
    curves: tuple[Curve, ...] = ()


def interleaved(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int, clock: Callable[[], float] = process_time
) -> dict[str, list[float]]:
    """Times of the calls [s], taken in turn after one round of warm-up, so that the machine's load meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if i:
                times[name].append(clock() - start)
    return times


def fastest_ratio(times: Iterable[float], reference: Iterable[float]) -> float:
    """The ratio of the fastest rounds, those that the machine's other work disturbed least."""
    return min(times) / min(reference)
