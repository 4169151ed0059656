"""Pairs that can't be right are found before they are trained on, and named."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from tqdm import tqdm

from depth.data.dataset import decode_pair
from depth.data.depth_files import load_values
from depth.data.records import DepthPair, DepthPairs
from depth.data.units import USUAL, number, unit_name, units_per_meter
from engine.log import warn
from odebackbones.errors import InputError, truncate

LOOKED_AT = 20
"""Pairs, spread over the set, by which the unit is judged."""

FAR = 0.95
"""Quantile of the depths that stands for a scene's far end."""

SET_RANGE = (1 / 5, 1.0)
"""The far end of a set's scenes, of the greatest depth: outside of it the unit is wrong. KITTI's is about 0.4, so that
centimeters taken for 256ths of a meter are 0.16."""

BEYOND = 10
"""Times the greatest depth, from which on a depth is a word for "nothing there" (1e10, 65504, 1000) and no measure."""

PAIR_RANGE = (1 / 50, 2.0)
"""The same of one pair: meters where 256ths of them are expected are outside."""

MARKER_SHARE = 0.01
"""Of a map's pixels, from which on its greatest number, beyond the greatest depth, is a word for the sky."""


@dataclass(frozen=True)
class Expected:
    """What pairs must have.

    Attributes:
        max_depth: The model's greatest depth [m].
        cut: The part of a depth map that is evaluated; raises an InputError for one that has no such part.
        check_unit: Whether depths that are far from the greatest one are another unit's.
    """

    max_depth: float
    cut: Callable[[Tensor], Tensor] = lambda depth: depth
    check_unit: bool = True

    @property
    def limit(self) -> float:
        """From where on a depth stands for "nothing there" [m]."""
        return BEYOND * self.max_depth if self.check_unit else math.inf


def sound_pairs(found: DepthPairs, expected: Expected, *, strict: bool, verify: bool) -> DepthPairs:
    """The pairs without the faulty ones.

    Args:
        found: What a reader found.
        expected: What they must have.
        strict: Raise an error that names the faulty ones, in place of leaving them out.
        verify: Decode all; otherwise only a few, by which the unit is judged.

    Raises:
        InputError: There are faulty pairs and it is strict, or no others, or all are of another unit or too far away.
    """
    looked_at = found.pairs if verify else spread(found)
    far, problems, strange, beyond, reachable = {}, {}, [], 0, 0
    for pair in tqdm(looked_at, desc="checking pairs", leave=False, disable=None):
        try:
            depth = decode_pair(pair, found)[1]
            reachable += has_part(pair, depth, expected)
            end = far_end(depth, pair, expected)
            beyond += int((depth > expected.limit).sum())
            if expected.check_unit and not PAIR_RANGE[0] <= end / expected.max_depth <= PAIR_RANGE[1]:
                strange.append(end)
                raise other_unit(pair, end, expected)
            far[pair] = end
        except InputError as error:
            problems[pair] = str(error)
    for examples in by_kind(list(problems.values())):
        warn(f"{found.name}: {len(examples)} faulty pair(s), such as {examples[0]}")
    if beyond:
        warn(
            f"{found.name}: {beyond} depths beyond {BEYOND} times model.max_depth, as some tools have for the sky, "
            f"count as not measured"
        )
    if len(strange) == len(looked_at):
        require_unit(found, float(np.median(strange)), expected.max_depth)
    if problems and (strict or not far):
        faults = "; ".join(truncate(list(problems.values()), "of them"))
        raise InputError(
            f"{found.name}: {len(problems)} of {len(found.pairs)} pairs are faulty: {faults}. Repair them, or pass "
            f"--data.strict false to leave them out"
        )
    if expected.check_unit:
        require_unit(found, float(np.median(list(far.values()))), expected.max_depth)
    if not reachable:
        raise InputError(
            f"{found.name}: no depth that counts is below model.max_depth={expected.max_depth:g} m in {len(looked_at)} "
            f"pairs: set model.max_depth or data.unit"
        )
    kept = tuple(pair for pair in found.pairs if pair not in problems)
    return replace(found, pairs=kept, problems=tuple(problems.values()), limit=expected.limit)


def spread(found: DepthPairs) -> list[DepthPair]:
    """A few pairs, spread over the set."""
    return [found.pairs[i] for i in np.unique(np.linspace(0, len(found.pairs) - 1, LOOKED_AT).round().astype(int))]


def has_part(pair: DepthPair, depth: Tensor, expected: Expected) -> bool:
    """Whether a pair has depths below the greatest one in the part that is evaluated.

    Raises:
        InputError: The depth map has no such part; names the image.
    """
    try:
        part = expected.cut(depth)
    except InputError as error:
        raise InputError(f"{pair.image}: {error}") from error
    return bool(((part > 0) & (part < expected.max_depth)).any())


def by_kind(problems: Sequence[str]) -> list[list[str]]:
    """Problems that differ in their files and numbers only, together."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(re.sub(r"\S*[\d/]\S*", "", problem), []).append(problem)
    return list(kinds.values())


def far_end(depth: Tensor, pair: DepthPair, expected: Expected) -> float:
    """The depth [m] that 5 % of a map's pixels are beyond, those that stand for the sky left aside.

    Raises:
        InputError: Nothing was measured.
    """
    measured = depth[depth > 0]
    if not len(measured):
        raise InputError(f"{pair.depth}: no pixel has a measured depth (all are 0, 65535 or not finite)")
    return float(np.quantile(without_sky(measured, expected).numpy(), FAR))


def other_unit(pair: DepthPair, far: float, expected: Expected) -> InputError:
    """What to say of a map that is far from the depths that are expected."""
    return InputError(
        f"{pair.depth}: reaches to {far:.3g} m, where model.max_depth={expected.max_depth:g} m: is its unit another? "
        f"If it is right, pass --data.check_unit false"
    )


def without_sky(measured: Tensor, expected: Expected) -> Tensor:
    """Depths ``(N,)`` [m] without those that are a word for "nothing there", unless all are."""
    greatest = measured.max()
    kept = measured[measured <= expected.limit]
    if greatest > expected.max_depth and (measured == greatest).sum() >= MARKER_SHARE * len(measured):
        kept = kept[kept < greatest]
    return kept if len(kept) else measured


def fits(far: float, max_depth: float) -> bool:
    """Whether scenes that end there are what is expected of a greatest depth."""
    return SET_RANGE[0] <= far / max_depth <= SET_RANGE[1]


def in_other_units(found: DepthPairs, far: float, max_depth: float) -> list[str]:
    """Where scenes would end in the other usual units in which that is as expected."""
    own = units_per_meter(found.unit)
    ends = {unit: far * own / units_per_meter(unit) for unit in USUAL if not math.isclose(units_per_meter(unit), own)}
    return [f"{end:.3g} m in {unit}" for unit, end in ends.items() if fits(end, max_depth)]


def has_floats(found: DepthPairs) -> bool:
    """Whether the depth maps have floats."""
    return load_values(found.pairs[0].depth).dtype.kind == "f"


def require_unit(found: DepthPairs, far: float, max_depth: float) -> None:
    """Refuse a set whose scenes end much before or after the greatest depth."""
    if fits(far, max_depth):
        return
    if has_floats(found):
        unit = "meters (floats)" if not number(found.unit) else unit_name(found.unit)
        hint = "data.unit to the meters of 1.0 in the file, such as 0.001"
    else:
        others = in_other_units(found, far, max_depth)
        unit = unit_name(found.unit)
        hint = f"data.unit ({', or '.join(others)})" if others else "data.unit, as a number of meters if need be,"
    low, high = (bound * max_depth for bound in SET_RANGE)
    raise InputError(
        f"{found.name}: scenes end at {far:.3g} m, read in {unit}, but model.max_depth={max_depth:g} m implies "
        f"{low:.3g} to {high:.3g} m: set {hint} or model.max_depth, or pass --data.check_unit false if all is right"
    )


def describe(split: str, found: DepthPairs, *, max_depth: float | None) -> str:
    """Pairs, sizes and depths of a split, the latter of some of its pairs; and the units that it might have as well.

    Args:
        split: What to call it.
        found: Pairs of the split.
        max_depth: The model's greatest depth [m]; None if there is no doubt about the unit.
    """
    few = spread(found)
    depths = [decode_pair(pair, found)[1] for pair in few]
    sizes = [f"{height}x{width}" for height, width in sorted({tuple(depth.shape) for depth in depths})]
    measured = np.concatenate([depth[depth > 0].numpy() for depth in depths])
    low, middle, high = np.quantile(measured, (1 - FAR, 0.5, FAR))
    share = len(measured) / sum(depth.numel() for depth in depths)
    pairs = f"{len(found.pairs)} pairs of {', '.join(truncate(sizes, 'sizes'))} px"
    others = [] if max_depth is None or has_floats(found) else in_other_units(found, high, max_depth)
    doubt = f" (data.unit={unit_name(found.unit)}; {', '.join(others)} would do as well)" if others else ""
    return (
        f"{split}: {pairs}, {len(found.problems)} left out; "
        f"of {len(depths)} of them {100 * share:.1f} % of the pixels measured, 90 % from {low:.3g} to {high:.3g} m, "
        f"median {middle:.3g} m{doubt}"
    )
