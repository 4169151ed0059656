"""Names of weights before 0.2.0, when an ODE block's solver held its field."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

RENAMED = {"integrator.vector_field.": "field.", "integrator.coefficients": "method.coefficients"}
"""In an ODE block's state dict: what a name began with -> what it begins with."""


def current_names(weights: Mapping[str, T]) -> dict[str, T]:
    """The same weights by the names of today's models."""
    return {current_name(name): value for name, value in weights.items()}


def current_name(name: str) -> str:
    """A weight's name in today's models."""
    for old, new in RENAMED.items():
        head, found, rest = name.partition(old)
        if found and (not head or head.endswith(".")):
            return head + new + rest
    return name


def rename_old(block: Any, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let old weights be loaded: a hook of ``load_state_dict`` for the names that begin with ``prefix``."""
    for name in [name for name in state_dict if name.startswith(f"{prefix}integrator.")]:
        state_dict[prefix + current_name(name.removeprefix(prefix))] = state_dict.pop(name)
