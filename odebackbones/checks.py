"""Checks shared by several options."""

from collections.abc import Sequence
from typing import Any

from odebackbones.errors import InputError


def is_whole(value: Any, *, least: int = 1) -> bool:
    """Whether a value is a whole number of at least ``least``; a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def one_for_each(name: str, value: int | Sequence[int], blocks: int) -> list[int]:
    """Return a number for every block, from one for all or from a sequence."""
    values = [value] * blocks if isinstance(value, int) else list(value)
    if len(values) != blocks:
        raise InputError(f"{name}={value!r}: expected a number, or {blocks}, one for each ODE block")
    return values
