"""Adaptive solves: torchdiffeq finds the steps, which then form a grid like any other."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from odebackbones.errors import SolverError
from odebackbones.ode.devices import time_dtype
from odebackbones.ode.evaluation import CheckedField
from odebackbones.ode.field_state import FieldState, buffers_untouched
from odebackbones.ode.methods.adaptive import AdaptiveMethod
from odebackbones.ode.methods.runge_kutta import RungeKutta
from odebackbones.ode.replay import ReplayContext
from odebackbones.ode.slots import modules_of
from odebackbones.ode.solvers import SolverConfig
from odebackbones.ode.tuples import FlatField

TORCHDIFFEQS_STOPS = ("underflow in dt", "non-finite values in state")
"""Beginnings of the assertion messages with which torchdiffeq gives up a solve."""


@dataclass
class ObservedField:
    """A field in the form that torchdiffeq expects, which counts the evaluations of a forward solve.

    torchdiffeq solves forward without gradients, and evaluates with gradients only in an adjoint's backward solve:
    there nothing is counted, and the field computes with what it had in the forward pass, with ``tensors`` in place of
    its own.
    """

    field: CheckedField
    context: ReplayContext
    max_nfe: int | None
    name: str
    nfe: int = 0
    rejected: int = 0
    starts: list[float] = dataclasses.field(default_factory=list)
    inputs: FieldState | None = None
    tensors: Sequence[Tensor] = ()

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        """Evaluate the slope, in the state's dtype."""
        time = float(t.detach())
        with ExitStack() as stack:
            stack.enter_context(self.context.autocast())
            if not torch.is_grad_enabled():
                self.count(time)
            elif self.inputs:
                wanted = [tensor.requires_grad for tensor in self.tensors]
                stack.enter_context(self.inputs.restored(self.tensors, wanted, itself=True))
                self.inputs.go_back_to(self.inputs.start)
            slope = self.field(time, state).to(state.dtype)
            return slope if slope.requires_grad or not torch.is_grad_enabled() else slope + 0.0 * state

    def count(self, t: float) -> None:
        """Count an evaluation at ``t``.

        Raises:
            SolverError: The evaluation exceeds ``max_nfe``.
        """
        if self.nfe == self.max_nfe:
            raise SolverError(
                f"{self.name}max_nfe={self.max_nfe} evaluations are used up at t = {t:g}, after {len(self.starts)} "
                f"accepted and {self.rejected} rejected steps; raise max_nfe, or loosen rtol and atol"
            )
        self.nfe += 1

    @contextmanager
    def explaining(self, method: str) -> Iterator[None]:
        """Turn torchdiffeq's assertions (the step underflows, or the state is not finite) into a readable error."""
        try:
            yield
        except AssertionError as error:
            reason = next((stop for stop in TORCHDIFFEQS_STOPS if str(error).startswith(stop)), None)
            if reason is None:  # an assertion of the field's own
                raise
            raise SolverError(
                f"{self.name}{method} stopped after {len(self.starts)} accepted steps ({reason}); loosen rtol and "
                f"atol, or look whether the field is finite"
            ) from error

    def accepted_steps(self, method: AdaptiveMethod) -> RungeKutta:
        """The accepted steps as a method on a fixed grid."""
        ends = [*self.starts[1:], method.t_span[1]]
        return method.on_grid([(start, end - start) for start, end in zip(self.starts, ends, strict=True)])


class ObservedSteps(ObservedField):
    """An observed field that also notes an adaptive method's steps, through torchdiffeq's callbacks."""

    def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        """Note an accepted step."""
        self.starts.append(float(t0))

    def callback_reject_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        """Count a rejected step."""
        self.rejected += 1


@dataclass(frozen=True)
class AdaptiveSolution:
    """The result of an adaptive solve.

    Attributes:
        state: End state ``(B, ...)``.
        steps: The accepted steps, as a method on a fixed grid.
        nfe: Number of evaluations, rejected steps included.
        rejected: Number of rejected steps.
        moves_buffers: Whether the field changed one of its buffers; all are as before the solve.
    """

    state: Tensor
    steps: RungeKutta
    nfe: int
    rejected: int
    moves_buffers: bool


@torch.no_grad()
def solve_adaptively(
    field: CheckedField, method: AdaptiveMethod, state: Tensor, solver: SolverConfig, *, name: str
) -> AdaptiveSolution:
    """Solve with torchdiffeq, without a graph and without changing buffers.

    Args:
        field: The vector field.
        method: Name of the method, and the time span.
        state: ``(B, ...)``
        solver: Tolerances, and the limit on evaluations.
        name: Name of the solve, for errors.

    Raises:
        SolverError: ``max_nfe`` is exceeded, no step is small enough, or the state is not finite.
    """
    import torchdiffeq  # imported only when used: it imports scipy, which takes half a second

    observed = ObservedSteps(field, ReplayContext(state.device), solver.max_nfe, name)
    times = torch.tensor(method.t_span, dtype=time_dtype(state.device), device=state.device)
    tolerances: dict[str, Any] = {"rtol": solver.rtol, "atol": solver.atol}
    options = step_options(field, times) | {"dtype": times.dtype}
    with buffers_untouched(modules_of(field.vector_field)) as moved, observed.explaining(method.name):
        states = torchdiffeq.odeint(observed, state, times, **tolerances, method=method.name, options=options)
    end: Tensor = states[-1]  # pyright: ignore[reportAssignmentType] (no tuple comes of a tensor)
    return AdaptiveSolution(end, observed.accepted_steps(method), observed.nfe, observed.rejected, any(moved))


def step_options(field: CheckedField, times: Tensor) -> dict[str, Any]:
    """Build torchdiffeq's options: end on t1, not past it with interpolation; measure every part of a tuple.

    Args:
        field: The vector field.
        times: Start and end.
    """
    inner = field.vector_field
    return {"step_t": times[1:], **({"norm": inner.norm} if isinstance(inner, FlatField) else {})}
