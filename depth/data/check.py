"""Pairs that can't be right are found before they are trained on, and named."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor
from tqdm import tqdm

from odebackbones.engine.log import warn
from odebackbones.errors import InputError, first_of

from .dataset import decode_pair
from .depth_files import UNITS
from .records import DepthPair, DepthPairs

LOOKED_AT = 20
"""Pairs, spread over the set, by which the unit is judged."""

FAR = 0.95
"""Quantile of the depths that stands for a scene's far end."""

SET_RANGE = (1 / 7, 1.0)
"""The far end of a set's scenes, of the greatest depth: outside of it the unit is wrong. KITTI's is about 0.4,
and the two units differ by 3.9."""

BEYOND = 10
"""Times the greatest depth, from which on a depth is a word for "nothing there" (1e10, 65504, 1000) and no measure."""

PAIR_RANGE = (1 / 50, 2.0)
"""The same of one pair: metres where 256ths of them are expected are outside."""


def sound_pairs(
    found: DepthPairs, *, max_depth: float | None, cut: Callable[[Tensor], Tensor], strict: bool, verify: bool
) -> DepthPairs:
    """The pairs without the faulty ones.

    Args:
        found: What a reader found.
        max_depth: The model's greatest depth [m]; None lets any depths pass.
        cut: The part of a depth map that is evaluated; raises an InputError for one that has no such part.
        strict: Raise an error that names the faulty ones, in place of leaving them out.
        verify: Decode all; otherwise only a few, by which the unit is judged.

    Raises:
        InputError: There are faulty pairs and it is strict, or no others, or all are of another unit.
    """
    spread = np.unique(np.linspace(0, len(found.pairs) - 1, LOOKED_AT).round().astype(int))
    looked_at = found.pairs if verify else [found.pairs[i] for i in spread]
    far, problems, beyond = {}, {}, 0
    for pair in tqdm(looked_at, desc="checking pairs", leave=False, disable=None):
        try:
            depth = decode_pair(pair, found)[1]
            require_part(pair, depth, cut)
            far[pair] = far_end(depth, pair, max_depth=max_depth)
            beyond += 0 if max_depth is None else int((depth > BEYOND * max_depth).sum())
        except InputError as error:
            problems[pair] = str(error)
    for examples in by_kind(list(problems.values())):
        warn(f"{found.name}: {len(examples)} faulty pairs, such as {examples[0]}")
    if beyond:
        warn(
            f"{found.name}: {beyond} depths beyond {BEYOND} times model.max_depth, as some tools have for the sky, "
            f"count as not measured"
        )
    if problems and (strict or not far):
        faults = "; ".join(first_of(list(problems.values()), "of them"))
        raise InputError(
            f"{found.name}: {len(problems)} of {len(found.pairs)} pairs are faulty: {faults}. Repair them, or pass "
            f"data.strict=false to leave them out"
        )
    if max_depth is not None:
        require_unit(found, float(np.median(list(far.values()))), max_depth=max_depth)
    kept = tuple(pair for pair in found.pairs if pair not in problems)
    limit = math.inf if max_depth is None else BEYOND * max_depth
    return replace(found, pairs=kept, problems=tuple(problems.values()), limit=limit)


def require_part(pair: DepthPair, depth: Tensor, cut: Callable[[Tensor], Tensor]) -> None:
    """Refuse a pair that has not the part that is evaluated.

    Raises:
        InputError: Names the image.
    """
    try:
        cut(depth)
    except InputError as error:
        raise InputError(f"{pair.image}: {error}") from error


def by_kind(problems: Sequence[str]) -> list[list[str]]:
    """Problems that differ in their files and numbers only, together."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(re.sub(r"\S*[\d/]\S*", "", problem), []).append(problem)
    return list(kinds.values())


def far_end(depth: Tensor, pair: DepthPair, *, max_depth: float | None) -> float:
    """The depth [m] that 5 % of a map's pixels are beyond.

    Raises:
        InputError: Nothing was measured, or it is far from the depths that are expected.
    """
    measured = depth[depth > 0]
    if not len(measured):
        raise InputError(f"{pair.depth}: no pixel has a measured depth (all are 0, 65535 or not finite)")
    if max_depth is not None and bool((measured <= BEYOND * max_depth).any()):  # or all are of another unit
        measured = measured[measured <= BEYOND * max_depth]
    far = float(np.quantile(measured.numpy(), FAR))
    if max_depth is not None and not PAIR_RANGE[0] <= far / max_depth <= PAIR_RANGE[1]:
        raise InputError(
            f"{pair.depth}: reaches to {far:.3g} m, where model.max_depth={max_depth:g} m: is its unit another? If it "
            f"is right, pass data.check_unit=false"
        )
    return far


def require_unit(found: DepthPairs, far: float, *, max_depth: float) -> None:
    """Refuse a set whose scenes end much before or after the greatest depth."""
    if not SET_RANGE[0] <= far / max_depth <= SET_RANGE[1]:
        otherwise = [f"{far * UNITS[found.unit] / UNITS[unit]:.3g} m in {unit}" for unit in UNITS if unit != found.unit]
        low, high = (bound * max_depth for bound in SET_RANGE)
        raise InputError(
            f"{found.name}: scenes end at {far:.3g} m, read in {found.unit} ({', '.join(otherwise)}), where "
            f"model.max_depth={max_depth:g} m lets expect {low:.3g} to {high:.3g} m: set data.unit or model.max_depth, "
            f"or pass data.check_unit=false if all is right"
        )


def describe(split: str, found: DepthPairs) -> str:
    """Pairs, sizes and depths of a split, the latter of some of its pairs."""
    spread = np.unique(np.linspace(0, len(found.pairs) - 1, LOOKED_AT).round().astype(int))
    depths = [decode_pair(found.pairs[i], found)[1] for i in spread]
    sizes = [f"{height}x{width}" for height, width in sorted({tuple(depth.shape) for depth in depths})]
    measured = np.concatenate([depth[depth > 0].numpy() for depth in depths])
    low, middle, high = np.quantile(measured, (1 - FAR, 0.5, FAR))
    share = len(measured) / sum(depth.numel() for depth in depths)
    pairs = f"{len(found.pairs)} pairs of {', '.join(first_of(sizes, 'sizes'))} px"
    return (
        f"{split}: {pairs}, {len(found.problems)} left out; "
        f"of {len(depths)} of them {100 * share:.1f} % of the pixels measured, 90 % from {low:.3g} to {high:.3g} m, "
        f"median {middle:.3g} m"
    )
