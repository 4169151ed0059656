"""Checks that find and name faulty pairs before training."""

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
"""Number of pairs, spread over the set, by which the unit is judged."""

FAR = 0.95
"""Quantile of the depths that is taken as a scene's far end."""

SET_RANGE = (1 / 5, 1.0)
"""Range of the far end of a set's scenes, as a share of the greatest depth: outside it, the unit is wrong. KITTI's is
about 0.4, so centimeters read as 256ths of a meter give 0.16."""

BEYOND = 10
"""Multiple of the greatest depth beyond which a value means "nothing there" (1e10, 65504, 1000), not a measurement."""

PAIR_RANGE = (1 / 50, 2.0)
"""Range as in ``SET_RANGE``, but for a single pair: meters read as 256ths of a meter are outside."""

MARKER_SHARE = 0.01
"""Share of a map's measured pixels from which on its greatest depth, if beyond the model's, stands for the sky."""


@dataclass(frozen=True)
class Expected:
    """Requirements on pairs.

    Attributes:
        max_depth: The model's greatest depth [m].
        cut: Takes the part of a depth map that is evaluated; raises an InputError for a map without this part.
        check_unit: Whether depths far from the greatest depth are taken as a sign of a wrong unit.
    """

    max_depth: float
    cut: Callable[[Tensor], Tensor] = lambda depth: depth
    check_unit: bool = True

    @property
    def limit(self) -> float:
        """Depth [m] beyond which a value means "nothing there"."""
        return BEYOND * self.max_depth if self.check_unit else math.inf


def sound_pairs(found: DepthPairs, expected: Expected, *, strict: bool, verify: bool) -> DepthPairs:
    """Return the pairs without the faulty ones.

    Args:
        found: Pairs that a reader found.
        expected: Requirements on the pairs.
        strict: Raise an error that names the faulty pairs, instead of leaving them out.
        verify: Decode all pairs; otherwise only a few, by which the unit is judged.

    Raises:
        InputError: Pairs are faulty and ``strict`` is set or no others are left, the unit is wrong, or all depths that
            count are too far away.
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
    """Return a few pairs, spread over the set."""
    return [found.pairs[i] for i in np.unique(np.linspace(0, len(found.pairs) - 1, LOOKED_AT).round().astype(int))]


def has_part(pair: DepthPair, depth: Tensor, expected: Expected) -> bool:
    """Whether a pair has depths below the greatest one in the part that is evaluated.

    Raises:
        InputError: The depth map has no such part; the message names the image.
    """
    try:
        part = expected.cut(depth)
    except InputError as error:
        raise InputError(f"{pair.image}: {error}") from error
    return bool(((part > 0) & (part < expected.max_depth)).any())


def by_kind(problems: Sequence[str]) -> list[list[str]]:
    """Group the problems that differ only in their files and numbers."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(re.sub(r"\S*[\d/]\S*", "", problem), []).append(problem)
    return list(kinds.values())


def far_end(depth: Tensor, pair: DepthPair, expected: Expected) -> float:
    """Return the depth [m] beyond which 5 % of a map's measured pixels lie, without those that stand for the sky.

    Raises:
        InputError: The map has no measured depth.
    """
    measured = depth[depth > 0]
    if not len(measured):
        raise InputError(f"{pair.depth}: no pixel has a measured depth (all are 0, 65535 or not finite)")
    return float(np.quantile(without_sky(measured, expected).numpy(), FAR))


def other_unit(pair: DepthPair, far: float, expected: Expected) -> InputError:
    """Build the error for a map whose depths are far from the expected ones."""
    return InputError(
        f"{pair.depth}: reaches to {far:.3g} m, where model.max_depth={expected.max_depth:g} m: is its unit another? "
        f"If it is right, pass --data.check_unit false"
    )


def without_sky(measured: Tensor, expected: Expected) -> Tensor:
    """Return depths ``(N,)`` [m] without those that mean "nothing there", unless all do."""
    greatest = measured.max()
    kept = measured[measured <= expected.limit]
    if greatest > expected.max_depth and (measured == greatest).sum() >= MARKER_SHARE * len(measured):
        kept = kept[kept < greatest]
    return kept if len(kept) else measured


def fits(far: float, max_depth: float) -> bool:
    """Whether a far end of the scenes fits the model's greatest depth."""
    return SET_RANGE[0] <= far / max_depth <= SET_RANGE[1]


def in_other_units(found: DepthPairs, far: float, max_depth: float) -> list[str]:
    """Return the far ends of the scenes in other usual units, where they fit the model's greatest depth."""
    own = units_per_meter(found.unit)
    ends = {unit: far * own / units_per_meter(unit) for unit in USUAL if not math.isclose(units_per_meter(unit), own)}
    return [f"{end:.3g} m in {unit}" for unit, end in ends.items() if fits(end, max_depth)]


def has_floats(found: DepthPairs) -> bool:
    """Whether the depth maps hold floats, judged by the first one."""
    return load_values(found.pairs[0].depth).dtype.kind == "f"


def require_unit(found: DepthPairs, far: float, max_depth: float) -> None:
    """Refuse a set whose scenes end far below or beyond the model's greatest depth."""
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
    """Describe a split: its pairs, the sizes and depths of some of them, and other units that would fit as well.

    Args:
        split: Name of the split.
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
