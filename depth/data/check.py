"""Pairs that can't be right are found before they are trained on, and named."""

from __future__ import annotations

import logging

import numpy as np
from torch import Tensor
from tqdm import tqdm

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

PAIR_RANGE = (1 / 50, 2.0)
"""The same of one pair: metres where 256ths of them are expected are outside."""


def sound_pairs(found: DepthPairs, *, max_depth: float | None, strict: bool, verify: bool) -> DepthPairs:
    """The pairs without the faulty ones.

    Args:
        found: What a reader found.
        max_depth: The model's greatest depth [m]; None lets any depths pass.
        strict: Raise an error that names the faulty ones, in place of leaving them out.
        verify: Decode all; otherwise only a few, by which the unit is judged.

    Raises:
        InputError: There are faulty pairs and it is strict, or no others, or all are of another unit.
    """
    spread = np.unique(np.linspace(0, len(found.pairs) - 1, LOOKED_AT).round().astype(int))
    looked_at = found.pairs if verify else [found.pairs[i] for i in spread]
    far, problems = {}, {}
    for pair in tqdm(looked_at, desc="checking pairs", leave=False, disable=None):
        try:
            far[pair] = far_end(decode_pair(pair, found.unit)[1], pair, max_depth=max_depth)
        except InputError as error:
            problems[pair] = str(error)
    for problem in problems.values():
        logging.getLogger(__name__).warning(f"faulty pair: {problem}")
    if problems and (strict or not far):
        faults = "; ".join(first_of(list(problems.values()), "of them"))
        raise InputError(
            f"{found.name}: {len(problems)} of {len(found.pairs)} pairs are faulty: {faults}. Repair them, or pass "
            f"data.strict=false to leave them out"
        )
    if max_depth is not None:
        require_unit(found, float(np.median(list(far.values()))), max_depth=max_depth)
    kept = tuple(pair for pair in found.pairs if pair not in problems)
    return DepthPairs(found.name, kept, found.unit, tuple(problems.values()))


def far_end(depth: Tensor, pair: DepthPair, *, max_depth: float | None) -> float:
    """The depth [m] that 5 % of a map's pixels are beyond.

    Raises:
        InputError: Nothing was measured, or it is far from the depths that are expected.
    """
    measured = depth[depth > 0]
    if not len(measured):
        raise InputError(f"{pair.depth}: no pixel has a measured depth (all are 0, 65535 or not finite)")
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
