"""One evaluation of a vector field, with checks that it gives a slope and leaves the state unchanged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError


def is_recording(state: Tensor) -> bool:
    """Whether a graph is being recorded (fx, tracing, export, compile), so that values can't be inspected."""
    return not isinstance(state, Tensor) or torch.jit.is_tracing() or torch.compiler.is_compiling()


def is_transformed() -> bool:
    """Whether a torch.func transform is active."""
    return torch._C._are_functorch_transforms_active()


def evaluate(vector_field: Callable[[float, Tensor], Any], t: float, state: Tensor, *, inspect: bool = True) -> Tensor:
    """Evaluate the slope at time ``t``: ``(B, ...) -> (B, ...)``.

    Inference tensors do not count in-place changes, so their sums are compared instead, if ``inspect``.

    Raises:
        InputError: The slope differs in shape from the state or is not real floating point; the field changed the state
            in place; or the field treats the time as a tensor, or takes derivatives where no graph is kept.
    """
    if is_recording(state):
        return vector_field(t, state)
    before = fingerprint(state, inspect=inspect)
    try:
        slope = vector_field(t, state)
    except (AttributeError, TypeError, RuntimeError) as error:
        explain = next((explain for words, explain in EXPLANATIONS.items() if words in str(error)), None)
        if explain is None:
            raise
        raise explain(vector_field, t, error) from error
    if fingerprint(state, inspect=inspect) != before:
        raise changed_in_place(vector_field, t)
    return as_slope(slope, state, source=f"{name_of(vector_field)} (at t = {t:g})")


class CheckedField:
    """A vector field whose slopes are all checked, as by :func:`evaluate`.

    Args:
        vector_field: ``(t, state) -> slope``, a module or any callable.
        inspect: Whether to check inference tensors for in-place changes, too.
    """

    def __init__(self, vector_field: Callable[[float, Tensor], Any], *, inspect: bool = True) -> None:
        self.vector_field = vector_field
        self.inspect = inspect

    def __call__(self, t: float, state: Tensor) -> Tensor:
        """The slope at time ``t``."""
        return evaluate(self.vector_field, t, state, inspect=self.inspect)


def fingerprint(state: Tensor, *, inspect: bool) -> float | int:
    """A number that an in-place change alters: the tensor's version or, in inference mode, its sum."""
    if is_transformed() or not state.is_inference():
        return 0 if is_transformed() else state._version
    return float(state.sum().nan_to_num()) if inspect and state.device.type != "meta" else 0


def as_slope(slope: Any, state: Tensor, *, source: str) -> Tensor:
    """Return the slope, cast to the state's dtype if its own is wider; under autocast it keeps its own.

    Raises:
        InputError: The slope is not a tensor of the state's shape, or is not real floating point.
    """
    if not isinstance(slope, Tensor):
        raise InputError(f"{source} gives a {type(slope).__name__}: return a tensor of the state's shape")
    if slope.shape != state.shape:
        raise InputError(
            f"{source} gives a slope of the shape {tuple(slope.shape)} for a state of {tuple(state.shape)}: return "
            f"slopes of the state's shape, as by slope.expand_as(state)"
        )
    if slope.dtype == state.dtype:
        return slope
    if not slope.is_floating_point():
        raise InputError(f"{source} gives a slope of {slope.dtype} for a state of {state.dtype}: return real numbers")
    widens = torch.promote_types(slope.dtype, state.dtype) != state.dtype
    return slope.to(state.dtype) if widens and not torch.is_autocast_enabled(state.device.type) else slope


def time_taken_for_tensor(vector_field: Any, t: float, error: Exception) -> InputError:
    """Error for a field that expects its time to be a tensor, as fields written for torchdiffeq do."""
    return InputError(
        f"{name_of(vector_field)} failed with its time {t:g}, which is a number here and no tensor ({error}): use "
        f"math.sin(t) and the like, or wrap the field: odebackbones.ode.TensorTime(field)"
    )


def changed_in_place(vector_field: Any, t: float, _: Exception | None = None) -> InputError:
    """Error for a field that changes its input state in place."""
    return InputError(
        f"{name_of(vector_field)} changes its input in place (at t = {t:g}), and with it the state of the solve: let "
        f"its first layer make a new tensor, as ReLU(inplace=False) does, or begin with x = x.clone()"
    )


def graph_missing(vector_field: Any, t: float, error: Exception) -> InputError:
    """Error for a field that takes derivatives itself in a part of a solve that keeps no graph."""
    return InputError(
        f"{name_of(vector_field)} takes derivatives, and there is no graph at t = {t:g} ({error}): compute them by "
        f"torch.func.grad, or under torch.enable_grad() with x = x.detach().requires_grad_() if x.requires_grad is "
        f"False; or take gradient='backprop' and fixed steps"
    )


EXPLANATIONS: dict[str, Callable[[Any, float, Exception], InputError]] = {
    "'float' object has no attribute": time_taken_for_tensor,
    "must be Tensor, not float": time_taken_for_tensor,
    "leaf Variable that requires grad is being used in an in-place operation": changed_in_place,
    "does not require grad and does not have a grad_fn": graph_missing,
}
"""Part of an error message from Python or torch -> function that builds a clearer error."""


def name_of(vector_field: Any) -> str:
    """Name a vector field for errors."""
    kind = vector_field if hasattr(vector_field, "__name__") else type(vector_field)
    return f"the vector field {kind.__name__}"


class TensorTime(nn.Module):
    """A field written for tensor times, as in torchdiffeq, adapted to the solvers here, whose times are numbers.

    Args:
        vector_field: ``(t, state) -> slope`` with ``t: ()`` on the state's device, in its dtype.
    """

    def __init__(self, vector_field: Callable[[Tensor, Any], Any]) -> None:
        super().__init__()
        self.vector_field = vector_field

    def forward(self, t: float, state: Any) -> Any:
        """The slope at time ``t``."""
        like = state[0] if isinstance(state, tuple) else state
        return self.vector_field(torch.as_tensor(t, dtype=like.dtype, device=like.device), state)
