"""Checks shared by several options."""

from typing import Any


def is_whole(value: Any, *, least: int = 1) -> bool:
    """Whether a value is a whole number of at least ``least``; a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
