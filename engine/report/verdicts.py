"""Verdicts on two runs: which figures can be compared, and which of two figures is better, beyond their uncertainty."""

from collections.abc import Sequence

from engine.measure.resampling import difference_interval
from engine.report.records import UNSTATED, Compared, Interval, Quantity, Report, Verdict

TOLERANCE = 0.01
TOLERANCES = {"speed": 0.05}
"""Group of figures -> relative difference up to which there is no loss or win; :data:`TOLERANCE` by default."""

ACCURACY_FACTS = ("data set", "images", "image size", "protocol", UNSTATED)
FACTS = {
    "cost": (),
    "speed": ("device", "threads", "allocator", "precision", "image size", "speed measured at", UNSTATED),
}
"""Group of figures -> facts that must agree for them to be compared; :data:`ACCURACY_FACTS` by default."""

IMAGES = "digest of the images"
"""What must agree for figures of accuracy, in addition."""


def compare_quantity(
    reference: Quantity | None, other: Quantity | None, difference: Interval | None = None
) -> Compared:
    """Compare a run's figure with the reference's: its value, value / reference, and which is better.

    The ratio is ``None`` unless the reference is positive and the other is not negative. The verdict is empty where no
    difference can be shown (:func:`is_shown`), a figure is missing or of no direction (:func:`is_judged`).

    Args:
        reference: The reference's figure.
        other: The run's figure.
        difference: Interval of the difference, run minus reference, if both were resampled together.
    """
    value = other.value if other else None
    if reference is None or reference.value is None or other is None or value is None:
        return Compared(value, interval=other.interval if other else None)
    ratio = value / reference.value if reference.value > 0 and value >= 0 else None
    told = is_judged(reference, other) and is_shown(reference, other, difference)
    better = (value > reference.value) == (reference.better == "higher")
    verdict: Verdict = ("better" if better else "worse") if told else ""
    return Compared(value, ratio, verdict, interval=other.interval)


def is_judged(reference: Quantity, other: Quantity) -> bool:
    """Whether one of two figures can be the better one: both have the same direction, which is not ``"neither"``."""
    return other.better == reference.better != "neither"


def is_tested(reference: Quantity, other: Quantity, difference: Interval | None) -> bool:
    """Whether the uncertainty of two figures is known, so that a difference can be shown; that of a cost is none."""
    if reference.group not in FACTS:
        return difference is not None
    return reference.group != "speed" or None not in (reference.interval, other.interval)


def is_shown(reference: Quantity, other: Quantity, difference: Interval | None) -> bool:
    """Whether two figures differ beyond their uncertainty.

    Accuracy differs if the interval of the difference on the same images excludes zero. Cost and speed differ by more
    than :data:`TOLERANCES`, and the intervals of the medians of times don't meet; of too few rounds there are none.
    """
    assert reference.value is not None and other.value is not None
    if not is_tested(reference, other, difference):
        return False
    if difference is not None:
        return difference[0] > 0 or difference[1] < 0
    near = TOLERANCES.get(reference.group, TOLERANCE) * abs(reference.value)
    return abs(other.value - reference.value) > near and not overlap(reference, other)


def overlap(a: Quantity, b: Quantity) -> bool:
    """Whether the intervals of two figures have a value in common: then no difference was shown."""
    if a.interval is None or b.interval is None:
        return False
    return max(a.interval[0], b.interval[0]) <= min(a.interval[1], b.interval[1])


def difference_of(reference: Report, other: Report, quantity: Quantity | None) -> Interval | None:
    """Return the interval of the difference of a figure on the same images; None if it was not resampled in both."""
    if quantity is None or reference.resamples is None or other.resamples is None:
        return None
    return difference_interval(reference.resamples, other.resamples, quantity.label)


def unlike(group: str, reports: Sequence[Report]) -> list[str]:
    """Return the facts that must agree for the figures of a group to be compared, but do not."""
    digests = {report.resamples.digest for report in reports if report.resamples is not None}
    other_images = [IMAGES] if group not in FACTS and len(digests) > 1 else []
    return [fact for fact in FACTS.get(group, ACCURACY_FACTS) if differs(fact, reports)] + other_images


def differs(key: str, reports: Sequence[Report]) -> bool:
    """Whether the reports state different values of a fact."""
    return len({report.facts.get(key) for report in reports}) > 1
