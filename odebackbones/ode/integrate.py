"""``odeint``: solve an initial value problem."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.adaptive import AdaptiveIntegrator, solve_adaptively
from odebackbones.ode.adjoint import solve_adjoint
from odebackbones.ode.fixed_point import in_fixed_point
from odebackbones.ode.gradients import CheckpointedSolve
from odebackbones.ode.guards import can_check, is_recording, is_transformed, require_finite, require_in_range
from odebackbones.ode.integrators import Integrator, not_recordable
from odebackbones.ode.reversible import ReversibleSolve
from odebackbones.ode.schedule import count_evaluations, count_snapshots
from odebackbones.ode.solvers import SolverConfig, build_integrator, is_planned
from odebackbones.ode.stats import SolverStats
from odebackbones.ode.surroundings import tracking_norms
from odebackbones.ode.tuples import FlatField, flatten, split

S = TypeVar("S", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class Solution(Generic[S]):
    """The end state of a solve, and what it cost.

    Attributes:
        state: At the last time, of the initial state's shape (a tuple if that was one).
        stats: The cost.
        states: At all times of ``t_span``, the initial one included: ``(T, ...)``; None if there are just two.
    """

    state: S
    stats: SolverStats
    states: S | None = None


def wants_gradient(state: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether a backward pass can follow."""
    if is_recording(state) or not torch.is_grad_enabled():
        return False
    return state.requires_grad or any(p.requires_grad for p in parameters)


def integrate(
    integrator: Integrator, state: Tensor, solver: SolverConfig, *, parameters: Sequence[Tensor], name: str = ""
) -> tuple[Tensor, SolverStats]:
    """Run ``integrator`` in a gradient mode, check the outcome and count what it costs.

    While a graph is recorded, and in the transforms of torch.func, every gradient mode is the plain loop.

    Args:
        integrator: Field and method.
        state: ``(B, ...)``
        solver: Gradient mode and checks.
        parameters: What the field depends on.
        name: Whose solve it is, for errors.

    Returns:
        The end state ``(B, ...)`` and the cost.

    Raises:
        SolverError: The end state is not finite, or ``max_nfe`` is exceeded.
    """
    prefix = f"{name}: " if name else ""
    if is_recording(state) and not is_planned(solver):
        raise not_recordable(solver.method)
    if not is_recording(state) and state.numel() == 0:  # no largest number, no norm of an error: one step will do
        solver = SolverConfig("euler", 1, "backprop")
        integrator = build_integrator(integrator.vector_field, integrator.ends(), solver)
    backward = wants_gradient(state, parameters) and not is_transformed()
    if backward and solver.gradient == "adjoint":
        end, stats = solve_adjoint(integrator, state, solver, parameters=parameters, name=prefix)
    elif isinstance(integrator, AdaptiveIntegrator):
        return integrate_adaptively(integrator, state, solver, parameters=parameters, name=prefix)
    elif backward:
        end = solve(integrator, state, solver, parameters=parameters, name=prefix)
        stats = planned_stats(integrator, solver)
    else:
        end = integrator(state)
        stats = SolverStats(sum(integrator.evaluations()), 0, len(integrator.grid))
    if solver.check_finite and can_check(end):
        require_finite(integrator, state, end, name=prefix)
    return end, stats


def solve(
    integrator: Integrator, state: Tensor, solver: SolverConfig, *, parameters: Sequence[Tensor], name: str
) -> Tensor:
    """The end state on a fixed grid, for a backward pass to follow."""
    if solver.gradient == "reversible":
        fixed = in_fixed_point(integrator)
        end, reached = ReversibleSolve.apply(fixed, state, *parameters)  # pyright: ignore[reportGeneralTypeIssues]
        if solver.check_finite and can_check(end):
            require_in_range(integrator, state, reached, name=name)
        return end
    if solver.gradient == "checkpoint":
        snapshots = count_snapshots(solver.checkpoints, len(integrator.grid))
        return CheckpointedSolve.apply(integrator, snapshots, state, *parameters)  # pyright: ignore[reportReturnType]
    return integrator(state)


def planned_stats(integrator: Integrator, solver: SolverConfig) -> SolverStats:
    """What a solve on a fixed grid costs, its backward pass included."""
    evaluations, steps = integrator.evaluations(), len(integrator.grid)
    again = {
        "backprop": lambda: (0,) * steps,
        "checkpoint": lambda: count_evaluations(steps, count_snapshots(solver.checkpoints, steps)),
        "reversible": lambda: (1,) * steps,
        "adjoint": lambda: (1,) * steps,
    }[solver.gradient]()
    backward = sum(times * nfe for times, nfe in zip(again, evaluations, strict=True))
    twice = solver.gradient == "adjoint" and bool(tracking_norms(list(integrator.modules())))
    return SolverStats(sum(evaluations) * (1 + twice), backward, steps)


def integrate_adaptively(
    integrator: AdaptiveIntegrator, state: Tensor, solver: SolverConfig, *, parameters: Sequence[Tensor], name: str
) -> tuple[Tensor, SolverStats]:
    """Let torchdiffeq find the steps; for gradients and for running statistics, take them again, as a fixed grid.

    The gradient is that of the accepted steps, exact for them (J. Zhuang et al.: Adaptive Checkpoint Adjoint Method
    for Gradient Estimation in Neural ODE, ICML 2020, arXiv:2006.02493).
    """
    found = solve_adaptively(integrator, state, rtol=solver.rtol, atol=solver.atol, max_nfe=solver.max_nfe, name=name)
    steps = len(found.steps.grid)
    stats = SolverStats(found.nfe, 0, steps, found.rejected)
    if not wants_gradient(state, parameters) and not tracking_norms(list(integrator.modules())):
        return found.state, stats
    fixed = replace(solver, method="euler", steps=steps, grid=None)  # for its gradient mode and its checks
    end, cost = integrate(found.steps, state, fixed, parameters=parameters, name=name)
    return end, replace(stats, nfe=found.nfe + cost.nfe, nfe_backward=cost.nfe_backward)


def odeint(
    vector_field: Callable[[float, S], S],
    state: S,
    t_span: Sequence[float] = (0.0, 1.0),
    solver: SolverConfig = SolverConfig(),  # noqa: B008 (frozen)
    *,
    parameters: Iterable[Tensor] | None = None,
) -> Solution[S]:
    r"""Solve :math:`x'(t) = f(t, x),\; x(t_0) = x_0` for :math:`x(t_1)`, or for more times.

    Args:
        vector_field: :math:`f(t, x)`; ``t`` is a float, ``x`` has the shape of ``state``. One with normalisation
            layers must be a module: layers in a closure can't be seen, and would count a recomputed batch twice.
        state: :math:`x_0`: ``(B, ...)``, any shape, or a tuple of tensors, which the field then takes and gives.
        t_span: ``(t0, t1)`` or more times in one direction, which may be backward; the solver takes its steps from
            each to the next.
        solver: Method, steps and gradient mode.
        parameters: Tensors besides ``state`` that the field depends on and that want gradients; by default the
            parameters of a field that is a module. Needed with any other callable, unless ``gradient="backprop"``:
            pass ``()`` if there are none.

    Returns:
        The end state, of the shape of ``state``, the states at all times if there are more than two, and the
        statistics of the solve.

    Raises:
        InputError: The times don't ascend or descend, the state holds whole numbers, or ``parameters`` are needed and
            missing.
        SolverError: The end state is not finite, or ``max_nfe`` is exceeded.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366
    """
    times = require_monotone(t_span)
    if not isinstance(solver, SolverConfig):
        raise InputError(f"solver={solver!r}: expected a SolverConfig, such as SolverConfig('rk4', steps=10)")
    if solver.method == "lm":
        raise InputError("solver 'lm' has coefficients to learn, which a function can't keep: use an ODEBlock")
    parameters = field_parameters(vector_field, gradient=solver.gradient) if parameters is None else tuple(parameters)
    if isinstance(state, tuple):
        flat, shapes = flatten(state)
        solution = odeint(FlatField(vector_field, shapes), flat, times, solver, parameters=parameters)
        states = None if solution.states is None else split(solution.states, shapes)
        return Solution(split(solution.state, shapes), solution.stats, states)
    if not (state.is_floating_point() or state.is_complex()):
        raise InputError(f"state of {state.dtype}: expected floating point; convert it, for example by state.float()")
    states, stats = [state], SolverStats(0, 0, 0)
    for interval in pairwise(times):
        integrator = build_integrator(vector_field, interval, solver)  # pyright: ignore[reportArgumentType] (no tuples)
        end, cost = integrate(integrator, states[-1], solver, parameters=parameters)
        states.append(end)
        stats = stats + cost
    return Solution(states[-1], stats, torch.stack(states) if len(times) > 2 else None)


def require_monotone(t_span: Sequence[float]) -> list[float]:
    """The times as floats, refused if they are fewer than two or don't ascend or descend."""
    times = [float(t) for t in t_span]
    if len(times) == 2 and times[0] == times[1]:
        raise InputError(f"t_span={tuple(times)}: start and end are equal; give an interval of some length")
    steps = [b - a for a, b in pairwise(times)]
    if len(times) < 2 or not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        raise InputError(f"t_span={tuple(times)}: expected two times or more, ascending or descending throughout")
    return times


def field_parameters(vector_field: Callable[..., Any], *, gradient: str) -> tuple[Tensor, ...]:
    """The parameters of a field that is a module; a closure's can't be seen, so they are asked for where needed."""
    if isinstance(vector_field, nn.Module):
        return tuple(vector_field.parameters())
    if gradient != "backprop":
        raise InputError(
            f"gradient={gradient!r} needs to know what the vector field depends on, and it is no torch.nn.Module: "
            f"pass parameters=(...), which may be empty, or use gradient='backprop'"
        )
    return ()
