"""Names of weights before 0.2.0, when an ODE block's solver held its field."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

RENAMED = {"integrator.vector_field.": "field.", "integrator.coefficients": "method.coefficients"}
"""In an ODE block's state dict: old prefix of a name -> current prefix."""


def current_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Return the same weights under the names of the current models."""
    return {current_name(name): value for name, value in weights.items()}


def current_name(name: str) -> str:
    """Return a weight's name in the current models."""
    for old, new in RENAMED.items():
        head, found, rest = name.partition(old)
        if found and (not head or head.endswith(".")):
            return head + new + rest
    return name


def rename_old(block: Any, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename old weights that begin with ``prefix``, as a pre-hook of ``load_state_dict``."""
    for name in [name for name in state_dict if name.startswith(f"{prefix}integrator.")]:
        state_dict[prefix + current_name(name.removeprefix(prefix))] = state_dict.pop(name)
