"""Adaptive steps: torchdiffeq finds them, and then they are a grid like any other."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from odebackbones.errors import SolverError
from odebackbones.ode.devices import time_dtype
from odebackbones.ode.field_state import FieldState, buffers_untouched
from odebackbones.ode.integrators import Integrator, ReusedSlope, RungeKutta, VectorField, not_recordable
from odebackbones.ode.slots import modules_of
from odebackbones.ode.surroundings import Surroundings
from odebackbones.ode.tableaus import ADAPTIVE_TABLEAUS
from odebackbones.ode.tuples import FlatField

TORCHDIFFEQS_STOPS = ("underflow in dt", "non-finite values in state")
"""How the messages begin of the assertions by which torchdiffeq gives a solve up."""

REUSING = frozenset({"adaptive_heun"})
"""Methods whose steps torchdiffeq begins with a slope that is not the one at their state."""


class AdaptiveIntegrator(Integrator):
    """The place of a method whose grid is found anew in every solve: it holds the field, and takes no steps."""

    def __init__(self, vector_field: VectorField, *, method: str, t_span: tuple[float, float]) -> None:
        super().__init__(vector_field, grid=[], times=[])
        self.method = method
        self.t_span = t_span

    @torch.jit.unused
    def ends(self) -> tuple[float, float]:
        """The start and the end of the time span."""
        return self.t_span

    def __prepare_scriptable__(self) -> "AdaptiveIntegrator":
        raise not_recordable(self.method)


@dataclass
class ObservedField:
    """A field as torchdiffeq wants it, that counts the evaluations of a forward solve.

    torchdiffeq solves forward without gradients, and evaluates with gradients only on an adjoint's way back: there
    nothing is counted, and the field computes with what it had in the forward pass, with ``tensors``
    for its own.
    """

    integrator: Integrator
    surroundings: Surroundings
    max_nfe: int | None
    name: str
    nfe: int = 0
    rejected: int = 0
    starts: list[float] = field(default_factory=list)
    state: FieldState | None = None
    tensors: Sequence[Tensor] = ()

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        """The slope, in the state's dtype."""
        time = float(t.detach())
        with ExitStack() as stack:
            stack.enter_context(self.surroundings.casts())
            if not torch.is_grad_enabled():
                self.count(time)
            elif self.state:
                wanted = [tensor.requires_grad for tensor in self.tensors]
                stack.enter_context(self.state.restored(self.tensors, wanted, itself=True))
                self.state.go_back_to(self.state.start)
            slope = self.integrator.slope(time, state).to(state.dtype)
            return slope if slope.requires_grad or not torch.is_grad_enabled() else slope + 0.0 * state

    def count(self, t: float) -> None:
        """Count an evaluation at ``t``.

        Raises:
            SolverError: It is one too many.
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


class ObservedSteps(ObservedField):
    """An observed field that notes an adaptive method's steps, too, through torchdiffeq's callbacks."""

    def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        """Note an accepted step."""
        self.starts.append(float(t0))

    def callback_reject_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        """Count a rejected step."""
        self.rejected += 1

    def accepted_steps(self) -> RungeKutta:
        """The accepted steps as a method on a fixed grid."""
        assert isinstance(self.integrator, AdaptiveIntegrator)
        ends = [*self.starts[1:], self.integrator.t_span[1]]
        grid = [(start, end - start) for start, end in zip(self.starts, ends, strict=True)]
        method = ReusedSlope if self.integrator.method in REUSING else RungeKutta
        return method(self.integrator.vector_field, tableau=ADAPTIVE_TABLEAUS[self.integrator.method], grid=grid)


@dataclass(frozen=True)
class AdaptiveSolution:
    """What an adaptive solve found.

    Attributes:
        state: ``(B, ...)`` at the end.
        steps: The accepted steps, as a method on a fixed grid.
        nfe: Evaluations, those of rejected steps included.
        rejected: Rejected steps.
        moves_buffers: Whether the field has moved a buffer of its own; they stand as before.
    """

    state: Tensor
    steps: RungeKutta
    nfe: int
    rejected: int
    moves_buffers: bool


@torch.no_grad()
def solve_adaptively(
    integrator: AdaptiveIntegrator, state: Tensor, *, rtol: float, atol: float, max_nfe: int | None, name: str
) -> AdaptiveSolution:
    """Solve by torchdiffeq, without a graph and without moving buffers.

    Args:
        integrator: Field, method and time span.
        state: ``(B, ...)``
        rtol: Relative tolerance of a step's error.
        atol: Absolute tolerance.
        max_nfe: Evaluations that are allowed, or None.
        name: Whose solve it is, for errors.

    Raises:
        SolverError: ``max_nfe`` is exceeded, or no step is small enough.
    """
    import torchdiffeq  # not before it is used: it brings scipy, half a second

    observed = ObservedSteps(integrator, Surroundings(state.device), max_nfe, name)
    times = torch.tensor(integrator.ends(), dtype=time_dtype(state.device), device=state.device)
    options = step_options(integrator, times)
    with buffers_untouched(modules_of(integrator)) as moved, observed.explaining(integrator.method):
        states = torchdiffeq.odeint(
            observed, state, times, rtol=rtol, atol=atol, method=integrator.method, options=options
        )
    end: Tensor = states[-1]  # pyright: ignore[reportAssignmentType] (no tuple comes of a tensor)
    return AdaptiveSolution(end, observed.accepted_steps(), observed.nfe, observed.rejected, any(moved))


def step_options(integrator: Integrator, times: Tensor) -> dict[str, Any]:
    """torchdiffeq's options: end on t1, where it would step beyond and interpolate; of a tuple, measure every part.

    Args:
        integrator: An adaptive method, or one on equal steps, which torchdiffeq gives no other dtype of times.
        times: Start and end.
    """
    norm = {"norm": integrator.vector_field.norm} if isinstance(integrator.vector_field, FlatField) else {}
    dtype = {"dtype": times.dtype} if isinstance(integrator, AdaptiveIntegrator) else {}
    return {"step_t": times[1:], **dtype, **norm}
