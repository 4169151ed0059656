"""Checks of a solve's outcome: they wait for the device once, and search the steps only if something is wrong."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from odebackbones.errors import SolverError
from odebackbones.ode.evaluation import CheckedField, is_recording, is_transformed
from odebackbones.ode.field_state import without_trace
from odebackbones.ode.methods.base import Method
from odebackbones.ode.slots import modules_of


def can_differentiate(state: Tensor) -> bool:
    """Whether our own backward pass can follow: not while recording, nor in torch.func, which has its own."""
    return torch.is_grad_enabled() and not is_recording(state) and not is_transformed()


def wants_gradient(state: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether the state or one of the tensors that the field depends on requires a gradient."""
    return state.requires_grad or any(tensor.requires_grad for tensor in tensors)


def can_check(state: Tensor) -> bool:
    """Whether values can be inspected: not while recording, transforming or capturing, nor on the meta device."""
    if is_recording(state) or is_transformed() or state.device.type == "meta":
        return False
    return not (state.device.type == "cuda" and torch.cuda.is_current_stream_capturing())


def is_finite(state: Tensor) -> bool:
    """Whether all numbers are finite; waits for the device.

    A finite sum shows it quickly; if the sum is not finite, it may have overflowed, and all numbers are checked.
    """
    total = state.detach().sum(dtype=torch.promote_types(state.dtype, torch.float32))
    return bool(total.isfinite()) or bool(state.isfinite().all())


@torch.no_grad()
def where_not_finite(field: CheckedField, method: Method, state: Tensor) -> str:
    """Solve again, find the step after which the state is not finite, and describe it with advice."""
    advice = "lower the learning rate, clip gradients, or take more steps"
    if not is_finite(state):
        return "before the solve; look at the input and at the layers before it"
    with without_trace(modules_of(field.vector_field), state.device):
        carry = [state]
        for i, (t, h) in enumerate(method.grid):
            carry = method.advance(field, i, carry)
            if not all(is_finite(tensor) for tensor in carry if tensor.is_floating_point()):
                return f"after step {i + 1} of {len(method.grid)}, from t = {t:g} to {t + h:g}; {advice}"
    return f"after the solve, but was when it was repeated (random layers may have drawn otherwise); {advice}"


def require_finite(
    field: CheckedField, method: Method, state: Tensor, end: Tensor, reached: Tensor | None = None, *, name: str
) -> None:
    """Stop if the end state is not finite, or if numbers in fixed point may have outgrown their format.

    Args:
        field: The vector field.
        method: The method that was run.
        state: Initial state.
        end: End state.
        reached: For a solve in fixed point: bound on the largest number, divided by the format's limit; not finite if
            the bound or the end state is not.
        name: Name of the solve, for errors.

    Raises:
        SolverError: The state is not finite (the error names the step and its times), or it outgrew its fixed-point
            format (the error names a larger format).
    """
    size = 0.0 if reached is None else float(reached)
    if not math.isfinite(size) or (reached is None and not is_finite(end)):
        raise SolverError(f"{name}the state is not finite {where_not_finite(field, method, state)}")
    if size >= 1.0:
        raise SolverError(
            f"{name}the state outgrew its fixed-point format (up to {size:.3g} times its largest number): take "
            f"state_dtype='float64' or gradient='checkpoint'; if the state explodes, lower the learning rate"
        )
