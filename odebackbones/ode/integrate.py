"""Run a method in a gradient mode, check the outcome and count what it costs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from odebackbones.errors import SolverError, name_prefix
from odebackbones.ode.adaptive import solve_adaptively
from odebackbones.ode.evaluation import CheckedField, is_recording, is_transformed
from odebackbones.ode.field_state import FieldState
from odebackbones.ode.gradients.adjoint import solve_adjoint
from odebackbones.ode.gradients.checkpoint import Steps, solve_with_checkpoints
from odebackbones.ode.gradients.reversible import solve_reversibly
from odebackbones.ode.guards import can_check, can_differentiate, require_finite, wants_gradient
from odebackbones.ode.methods.adaptive import AdaptiveMethod
from odebackbones.ode.methods.base import Method, VectorField, not_recordable
from odebackbones.ode.methods.fixed_point import in_fixed_point
from odebackbones.ode.methods.implicit_euler import ConvergenceError
from odebackbones.ode.schedule import capacity, count_evaluations
from odebackbones.ode.slots import modules_of, tracking_norms
from odebackbones.ode.solvers import SolverConfig, has_fixed_cost, with_changes
from odebackbones.ode.stats import SolverStats

Solve = Callable[[CheckedField, Method, Tensor, SolverConfig, FieldState], tuple[Tensor, Tensor | None]]
"""A solve on a fixed grid: ``(B, ...) -> (B, ...)``, and in fixed point the largest number over the format's limit."""


def solve_checkpointed(
    field: CheckedField, method: Method, state: Tensor, solver: SolverConfig, inputs: FieldState
) -> tuple[Tensor, None]:
    """Solve and keep some states for the backward pass."""
    steps = Steps(len(method.grid), partial(method.advance, field))
    return solve_with_checkpoints(steps, capacity(solver.checkpoints, steps.number), state, inputs), None


def solve_in_reverse(
    field: CheckedField, method: Method, state: Tensor, solver: SolverConfig, inputs: FieldState
) -> tuple[Tensor, Tensor]:
    """Solve and keep only the end for the backward pass."""
    return solve_reversibly(field, in_fixed_point(method), state, inputs)


SOLVES: dict[str, Solve] = {"checkpoint": solve_checkpointed, "reversible": solve_in_reverse}
"""Gradient mode with a backward pass of its own -> its solve on a fixed grid."""

EVALUATIONS_AGAIN: dict[str, Callable[[int, SolverConfig], Sequence[int]]] = {
    "backprop": lambda steps, _: (0,) * steps,
    "checkpoint": lambda steps, solver: count_evaluations(steps, capacity(solver.checkpoints, steps)),
    "reversible": lambda steps, _: (1,) * steps,
    "adjoint": lambda steps, _: (1,) * steps,
}
"""Gradient mode -> how often the backward pass evaluates each step again."""


def integrate(
    vector_field: VectorField,
    method: Method | AdaptiveMethod,
    state: Tensor,
    solver: SolverConfig,
    *,
    parameters: Sequence[Tensor] = (),
    name: str = "",
    inspect: bool = True,
) -> tuple[Tensor, SolverStats]:
    """Solve in a gradient mode, check the outcome and count what it costs.

    While a graph is recorded, and in torch.func's transforms, every gradient mode runs the plain loop.

    Args:
        vector_field: :math:`f(t, x)`
        method: The method that ``solver`` names, on its grid.
        state: ``(B, ...)``
        solver: Gradient mode and checks.
        parameters: Tensors that the field depends on and that its modules don't hold.
        name: Name of the solve, for errors.
        inspect: Whether to check that the field does not change an inference-mode state in place.

    Returns:
        The end state ``(B, ...)`` and the cost.

    Raises:
        InputError: The field's slopes differ in shape from the state, or this method can't be recorded.
        SolverError: The end state is not finite, iterations don't converge, or an adaptive method takes more than
            ``max_nfe`` evaluations.
    """
    if is_recording(state):
        if isinstance(method, AdaptiveMethod) or not has_fixed_cost(solver):
            raise not_recordable(solver.method)
        return method.solve(vector_field, state), fixed_cost(vector_field, method, solver, "backprop")
    field, prefix = CheckedField(vector_field, inspect=inspect), name_prefix(name)
    if state.numel() == 0:
        return solve_empty_batch(field, method, state), SolverStats(1, 0, 0)
    inputs = None
    if solver.gradient != "backprop":
        inputs = differentiated_inputs(vector_field, method, state, parameters)
    if inputs and solver.gradient == "adjoint":
        return solve_adjoint(field, method, state, solver, inputs=inputs, name=prefix)
    if isinstance(method, AdaptiveMethod):
        return integrate_adaptively(field, method, state, solver, parameters=parameters, name=name)
    return integrate_on_grid(field, method.for_solve(), state, solver, inputs=inputs, name=prefix)


def integrate_on_grid(
    field: CheckedField, method: Method, state: Tensor, solver: SolverConfig, *, inputs: FieldState | None, name: str
) -> tuple[Tensor, SolverStats]:
    """Integrate over known steps, as :func:`integrate`; ``inputs`` are given if our own backward pass may follow."""
    gradient, reached = solver.gradient if inputs else "backprop", None
    try:
        if inputs and gradient in SOLVES:
            end, reached = SOLVES[gradient](field, method, state, solver, inputs)
        else:  # autograd keeps all activations, or none
            end = method.solve(field, state)
    except ConvergenceError as error:
        raise SolverError(f"{name}{error}") from None
    if solver.check_finite and can_check(end):
        require_finite(field, method, state, end, reached, name=name)
    return end, fixed_cost(field.vector_field, method, solver, gradient)


def differentiated_inputs(
    vector_field: VectorField, method: Method | AdaptiveMethod, state: Tensor, parameters: Sequence[Tensor]
) -> FieldState | None:
    """Return what the field computes with, if our own backward pass may have to restore it."""
    if not can_differentiate(state):
        return None
    inputs = FieldState(vector_field, method, parameters=parameters)
    return inputs if wants_gradient(state, inputs.tensors) else None


def solve_empty_batch(field: CheckedField, method: Method | AdaptiveMethod, state: Tensor) -> Tensor:
    """Return the end of an empty state with a graph; an empty state has no largest number and no error norm."""
    t = method.times[0][0] if isinstance(method, Method) else method.t_span[0]
    return state + field(t, state)


def fixed_cost(vector_field: VectorField, method: Method, solver: SolverConfig, gradient: str) -> SolverStats:
    """The cost of a solve on a fixed grid in a gradient mode, including its backward pass."""
    evaluations, steps = method.evaluations(), len(method.grid)
    again = EVALUATIONS_AGAIN[gradient](steps, solver)
    backward = sum(times * nfe for times, nfe in zip(again, evaluations, strict=True))
    nfe = sum(evaluations)
    if gradient == "adjoint":  # one to see what the field depends on, and all again for running statistics
        nfe = 1 + nfe * (1 + bool(tracking_norms(modules_of(vector_field))))
    return SolverStats(nfe, backward, steps)


def integrate_adaptively(
    field: CheckedField,
    method: AdaptiveMethod,
    state: Tensor,
    solver: SolverConfig,
    *,
    parameters: Sequence[Tensor],
    name: str,
) -> tuple[Tensor, SolverStats]:
    """Let torchdiffeq find the steps; for gradients and running statistics, repeat them as a fixed grid.

    The gradient is exact for the accepted steps (J. Zhuang et al.: Adaptive Checkpoint Adjoint Method
    for Gradient Estimation in Neural ODE, ICML 2020, arXiv:2006.02493).
    """
    vector_field = field.vector_field
    is_differentiated = is_transformed() or differentiated_inputs(vector_field, method, state, parameters) is not None
    found = solve_adaptively(field, method, state, solver, name=name_prefix(name))
    steps = len(found.steps.grid)
    stats = SolverStats(found.nfe, 0, steps, found.rejected)
    if not (is_differentiated or found.moves_buffers or tracking_norms(modules_of(vector_field))):
        return found.state, stats
    fixed = with_changes(solver, method="euler", steps=steps)  # for its gradient mode and its checks
    end, cost = integrate(vector_field, found.steps, state, fixed, parameters=parameters, name=name)
    return end, replace(stats, nfe=found.nfe + cost.nfe, nfe_backward=cost.nfe_backward)
