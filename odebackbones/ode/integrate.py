"""Run a method in a gradient mode, check the outcome and count what it costs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from torch import Tensor

from odebackbones.errors import SolverError, addressed
from odebackbones.ode.adaptive import AdaptiveIntegrator, solve_adaptively
from odebackbones.ode.adjoint import solve_adjoint
from odebackbones.ode.evaluation import is_recording, is_transformed
from odebackbones.ode.field_state import FieldState
from odebackbones.ode.fixed_point import in_fixed_point
from odebackbones.ode.gradients import solve_with_checkpoints
from odebackbones.ode.guards import (
    can_check,
    can_differentiate,
    require_finite,
    wants_gradient,
)
from odebackbones.ode.integrators import ConvergenceError, Integrator, not_recordable
from odebackbones.ode.reversible import solve_reversibly
from odebackbones.ode.schedule import budget, count_evaluations
from odebackbones.ode.slots import modules_of, tracking_norms
from odebackbones.ode.solvers import SolverConfig, changed, is_planned
from odebackbones.ode.stats import SolverStats

Solve = Callable[[Integrator, Tensor, SolverConfig, FieldState], tuple[Tensor, Tensor | None]]
"""A solve on a fixed grid: ``(B, ...) -> (B, ...)``, and how far numbers in fixed point went, if there are any."""


def checkpointed(integrator: Integrator, state: Tensor, solver: SolverConfig, field: FieldState) -> tuple[Tensor, None]:
    """Keep some states."""
    allowed = budget(solver.checkpoints, len(integrator.grid))
    return solve_with_checkpoints(integrator, allowed, state, field), None


def reversible(integrator: Integrator, state: Tensor, solver: SolverConfig, field: FieldState) -> tuple[Tensor, Tensor]:
    """Keep the end."""
    return solve_reversibly(in_fixed_point(integrator), state, field)


SOLVES: dict[str, Solve] = {"checkpoint": checkpointed, "reversible": reversible}
"""Gradient mode with a backward pass of its own -> its solve on a fixed grid."""

EVALUATIONS_AGAIN: dict[str, Callable[[int, SolverConfig], Sequence[int]]] = {
    "backprop": lambda steps, _: (0,) * steps,
    "checkpoint": lambda steps, solver: count_evaluations(steps, budget(solver.checkpoints, steps)),
    "reversible": lambda steps, _: (1,) * steps,
    "adjoint": lambda steps, _: (1,) * steps,
}
"""Gradient mode -> how often the backward pass evaluates each step again."""


def integrate(
    integrator: Integrator, state: Tensor, solver: SolverConfig, *, parameters: Sequence[Tensor] = (), name: str = ""
) -> tuple[Tensor, SolverStats]:
    """Run ``integrator`` in a gradient mode, check the outcome and count what it costs.

    While a graph is recorded, and in the transforms of torch.func, every gradient mode is the plain loop.

    Args:
        integrator: Field and method.
        state: ``(B, ...)``
        solver: Gradient mode and checks.
        parameters: What the field depends on beyond what its modules hold.
        name: Whose solve it is, for errors.

    Returns:
        The end state ``(B, ...)`` and the cost.

    Raises:
        InputError: The field's slopes have another shape than the state, or nothing can record this method.
        SolverError: The end state is not finite, iterations don't converge, or an adaptive method takes more than
            ``max_nfe`` evaluations.
    """
    if is_recording(state):
        if not is_planned(solver):
            raise not_recordable(solver.method)
        return integrator(state), planned_stats(integrator, solver, "backprop")
    if state.numel() == 0:
        return solve_nothing(integrator, state), SolverStats(1, 0, 0)
    prefix = addressed(name)
    field = None if solver.gradient == "backprop" else differentiated_field(integrator, state, parameters)
    gradient, reached = solver.gradient if field else "backprop", None
    if field and gradient == "adjoint":
        end, stats = solve_adjoint(integrator, state, solver, field=field, name=prefix)
    elif isinstance(integrator, AdaptiveIntegrator):
        return integrate_adaptively(integrator, state, solver, parameters=parameters, name=name)
    else:
        try:
            if field and gradient in SOLVES:
                end, reached = SOLVES[gradient](integrator, state, solver, field)
            else:  # autograd keeps all activations, or none
                end = integrator(state)
        except ConvergenceError as error:
            raise SolverError(f"{prefix}{error}") from None
        stats = planned_stats(integrator, solver, gradient)
    integrator.inspects = False
    if solver.check_finite and can_check(end):
        require_finite(integrator, state, end, reached, name=prefix)
    return end, stats


def differentiated_field(integrator: Integrator, state: Tensor, parameters: Sequence[Tensor]) -> FieldState | None:
    """What the field computes with, if a backward pass of ours may have to find it again."""
    if not can_differentiate(state):
        return None
    field = FieldState(integrator, parameters)
    return field if wants_gradient(state, field.tensors) else None


def solve_nothing(integrator: Integrator, state: Tensor) -> Tensor:
    """An empty state's end: there is no largest number and no norm of an error, but a graph to the parameters."""
    times = chain(*integrator.times, integrator.ends())
    return state + integrator.slope(next(times), state)


def planned_stats(integrator: Integrator, solver: SolverConfig, gradient: str) -> SolverStats:
    """What a solve on a fixed grid costs in a gradient mode, its backward pass included."""
    evaluations, steps = integrator.evaluations(), len(integrator.grid)
    again = EVALUATIONS_AGAIN[gradient](steps, solver)
    backward = sum(times * nfe for times, nfe in zip(again, evaluations, strict=True))
    nfe = sum(evaluations)
    if gradient == "adjoint":  # one to see what the field depends on, and all again for running statistics
        nfe = 1 + nfe * (1 + bool(tracking_norms(modules_of(integrator))))
    return SolverStats(nfe, backward, steps)


def integrate_adaptively(
    integrator: AdaptiveIntegrator, state: Tensor, solver: SolverConfig, *, parameters: Sequence[Tensor], name: str
) -> tuple[Tensor, SolverStats]:
    """Let torchdiffeq find the steps; for gradients and for running statistics, take them again, as a fixed grid.

    The gradient is that of the accepted steps, exact for them (J. Zhuang et al.: Adaptive Checkpoint Adjoint Method
    for Gradient Estimation in Neural ODE, ICML 2020, arXiv:2006.02493).
    """
    is_differentiated = is_transformed() or differentiated_field(integrator, state, parameters) is not None
    assert solver.rtol is not None and solver.atol is not None
    found = solve_adaptively(
        integrator, state, rtol=solver.rtol, atol=solver.atol, max_nfe=solver.max_nfe, name=addressed(name)
    )
    steps = len(found.steps.grid)
    stats = SolverStats(found.nfe, 0, steps, found.rejected)
    if not (is_differentiated or found.moves_buffers or tracking_norms(modules_of(integrator))):
        return found.state, stats
    fixed = changed(solver, method="euler", steps=steps)  # for its gradient mode and its checks
    end, cost = integrate(found.steps, state, fixed, parameters=parameters, name=name)
    return end, replace(stats, nfe=found.nfe + cost.nfe, nfe_backward=cost.nfe_backward)
