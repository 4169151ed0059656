"""``odeint``: solve an initial value problem."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.integrate import integrate
from odebackbones.ode.solvers import SolverConfig, build_integrator
from odebackbones.ode.stats import SolverStats
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
        InputError: The times don't ascend or descend, the state is not of real floating point, slopes have another
            shape, fixed steps take more than ``max_nfe`` evaluations, or ``parameters`` are needed and missing.
        SolverError: The end state is not finite, iterations don't converge, or an adaptive method takes more than
            ``max_nfe`` evaluations.

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
    if not state.is_floating_point():
        raise InputError(
            f"state of {state.dtype}: expected real floating point; convert it, as by state.float(), or solve real and "
            f"imaginary part as a tuple"
        )
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
