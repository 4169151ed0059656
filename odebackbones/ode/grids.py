"""Step grids: where the steps of a solve start and how long they are."""

from collections.abc import Sequence

Grid = list[tuple[float, float]]
"""Start and length ``(t, h)`` of every step; h is negative if time runs backward."""


def uniform_grid(t_span: tuple[float, float], steps: int) -> Grid:
    """Equal steps over ``t_span``."""
    t0, t1 = t_span
    h = (t1 - t0) / steps
    return [(t0 + i * h, h) for i in range(steps)]


def uneven_grid(t_span: tuple[float, float], fractions: Sequence[float]) -> Grid:
    """Steps that end at these fractions of ``t_span``; the last one is 1."""
    t0, t1 = t_span
    ends = [t0 + fraction * (t1 - t0) for fraction in fractions]
    return [(start, end - start) for start, end in zip([t0, *ends[:-1]], ends, strict=True)]


def distinct_times(times: Sequence[float], *, length: float) -> list[float]:
    """Return ``times`` in ascending order without repetitions, even if rounding makes these differ slightly.

    Args:
        times: Times, at least one.
        length: Length of the time span, the scale for slight differences.
    """
    ordered = sorted(times)
    return [t for i, t in enumerate(ordered) if i == 0 or t - ordered[i - 1] > 1e-9 * abs(length)]
