"""``odeint``: solve an initial value problem."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor  # pyright: ignore[reportMissingImports]
from torch.autograd.function import once_differentiable

from odebackbones.errors import InputError
from odebackbones.ode.evaluation import CheckedField, TensorTime
from odebackbones.ode.field_state import without_trace
from odebackbones.ode.integrate import integrate
from odebackbones.ode.methods.base import VectorField
from odebackbones.ode.slots import modules_of
from odebackbones.ode.solvers import SolverConfig, build_method, require_finite_times
from odebackbones.ode.stats import SolverStats
from odebackbones.ode.tuples import FlatField, flatten, split

S = TypeVar("S", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class Solution(Generic[S]):
    """The end state of a solve, and what it cost.

    Attributes:
        state: State at the last time, with the initial state's shape (a tuple if that was one).
        stats: Cost of the solve.
        states: States at all times of ``t_span``, including the initial state: ``(T, ...)``; None for just two times.
    """

    state: S
    stats: SolverStats
    states: S | None = None


def odeint(
    vector_field: Callable[[float, S], S],
    state: S,
    t_span: Sequence[float] | Tensor = (0.0, 1.0),
    solver: SolverConfig = SolverConfig(),  # noqa: B008 (frozen)
    *,
    parameters: Iterable[Tensor] | None = None,
    **others: Any,
) -> Solution[S]:
    r"""Solve :math:`x'(t) = f(t, x),\; x(t_0) = x_0` for :math:`x(t_1)`, or for more times.

    Args:
        vector_field: :math:`f(t, x)`; ``t`` is a float, ``x`` has the shape of ``state``. A field with
            normalization layers must be a module: layers in a closure can't be found, and would count a recomputed
            batch twice. A field written for tensor times is wrapped: ``TensorTime(field)``.
        state: :math:`x_0`: ``(B, ...)``, any shape, or a tuple of tensors, which the field then takes and returns.
        t_span: ``(t0, t1)`` or more times in one direction, which may be backward; the solver takes its steps from
            each time to the next. Times that are tensors and require a gradient get the gradient of the exact flow,
            :math:`\partial L / \partial t_1 = \langle \partial L / \partial x(t_1), f(t_1, x(t_1)) \rangle`
            (the negative at :math:`t_0`), at the cost of one more evaluation for
            each solve that starts or ends there.
        solver: Method, steps and gradient mode.
        parameters: Tensors besides ``state`` that the field depends on, that require gradients, and that no module of
            it holds; ``()`` if there are none. If omitted for a field that is not a module, they can't be found:
            ``"checkpoint"`` then becomes ``"backprop"``, and ``"reversible"`` and ``"adjoint"`` ask for them.
        **others: Must be empty: arguments of other libraries' solvers are refused, naming their counterparts here.

    Returns:
        The end state, with the shape of ``state``, the states at all times if there are more than two, and the
        statistics of the solve.

    Raises:
        InputError: The times don't ascend or descend, the state is not real floating point, slopes have another
            shape, fixed steps take more than ``max_nfe`` evaluations, or ``parameters`` are needed and missing.
        SolverError: The end state is not finite, iterations don't converge, or an adaptive method takes more than
            ``max_nfe`` evaluations.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366
    """
    require_ours(solver, others)
    require_state(state)
    times = require_monotone(t_span)
    if solver.method == "lm":
        raise InputError("solver 'lm' has coefficients to learn, which a function can't keep: use an ODEBlock")
    solver, given = with_parameters(vector_field, parameters, solver)
    if isinstance(state, tuple):
        flat, shapes = flatten(state)
        solution = odeint(FlatField(vector_field, shapes), flat, t_span, solver, parameters=given)
        states = None if solution.states is None else split(solution.states, shapes)
        return Solution(split(solution.state, shapes), solution.stats, states)
    learns = torch.is_grad_enabled()
    learned = [t if learns and isinstance(t, Tensor) and t.requires_grad else None for t in t_span]
    field: VectorField = vector_field  # pyright: ignore[reportAssignmentType] (of tensors, by now)
    states, stats = [state], SolverStats(0, 0, 0)
    for i, interval in enumerate(pairwise(times)):
        start = moved_by_time(field, states[-1], learned[i], sign=-1.0)
        end, cost = integrate(field, build_method(solver, interval), start, solver, parameters=given)
        states.append(moved_by_time(field, end, learned[i + 1], sign=1.0))
        slopes = sum(time is not None for time in learned[i : i + 2])
        stats = stats + cost + SolverStats(slopes, 0, 0)
    return Solution(states[-1], stats, torch.stack(states) if len(times) > 2 else None)


def moved_by_time(field: VectorField, state: Tensor, time: Tensor | None, *, sign: float) -> Tensor:
    """Return the state itself, with the gradient of a flow that ends (``sign`` 1) or starts (-1) at ``time``."""
    if time is None:
        return state
    with torch.no_grad(), without_trace(modules_of(field), state.device):
        slope = CheckedField(field)(time.detach().item(), state)
    return AtTime.apply(state, time, sign * slope)  # pyright: ignore[reportReturnType]


class AtTime(torch.autograd.Function):
    """A state ``(B, ...)``, which moves with a time by ``slope: (B, ...)``."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, time: Tensor, slope: Tensor) -> Tensor:
        """Return the state."""
        ctx.save_for_backward(slope)
        ctx.like = time
        return state.view_as(state)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients with respect to the state and to the time."""
        [slope] = ctx.saved_tensors
        return gradient, (gradient * slope).sum().to(ctx.like).reshape(ctx.like.shape), None


def require_ours(solver: Any, others: Mapping[str, Any]) -> None:
    """Refuse arguments of other libraries' solvers, and name their counterparts here."""
    if others:
        name, value = next(iter(others.items()))
        raise InputError(
            f"{name}={value!r}: odeint takes its options as solver=SolverConfig(...), such as SolverConfig('rk4', "
            f"steps=10) or SolverConfig('dopri5', rtol=1e-6, atol=1e-8)"
        )
    if not isinstance(solver, SolverConfig):
        raise InputError(f"solver={solver!r}: expected a SolverConfig, such as SolverConfig('rk4', steps=10)")


def require_state(state: Any) -> None:
    """Refuse a state that is neither a real tensor nor a tuple of real tensors."""
    tensors = state if isinstance(state, tuple) else (state,)
    if strange := [part for part in tensors if not isinstance(part, Tensor)]:
        raise InputError(
            f"a state with a {type(strange[0]).__name__}: expected a tensor, or a tuple of tensors "
            f"(torch.as_tensor(...) makes one of an array, tuple(...) of a list or of a dictionary's values)"
        )
    if whole := [part for part in tensors if not part.is_floating_point()]:
        raise InputError(
            f"state of {whole[0].dtype}: expected real floating point; convert it, as by state.float(), or solve real "
            f"and imaginary part as a tuple"
        )


def require_monotone(t_span: Sequence[float] | Tensor) -> list[float]:
    """Return the times as floats; refuse fewer than two, infinite or unordered times, and torch.func's tensors."""
    if any(isinstance(t, Tensor) and is_functorch_wrapped_tensor(t) for t in t_span):
        raise InputError("t_span: times have first derivatives by backward() only, and none in torch.func's transforms")
    times = [float(t.detach() if isinstance(t, Tensor) else t) for t in t_span]
    steps = [b - a for a, b in pairwise(times)]
    if len(times) < 2 or not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        raise InputError(f"t_span={tuple(times)}: expected two times or more, ascending or descending throughout")
    require_finite_times(times)
    return times


def with_parameters(
    vector_field: Callable[..., Any], parameters: Iterable[Tensor] | None, solver: SolverConfig
) -> tuple[SolverConfig, tuple[Tensor, ...]]:
    """Return the solver and the parameters that no module holds; refuse if they are needed and missing."""
    if parameters is not None:
        return solver, tuple(parameters)
    inner = vector_field.vector_field if isinstance(vector_field, TensorTime) else vector_field
    if isinstance(inner, nn.Module) or not torch.is_grad_enabled():
        return solver, ()
    if solver.gradient in ("checkpoint", "backprop"):
        return replace(solver, gradient="backprop", checkpoints="every"), ()
    raise InputError(
        f"gradient={solver.gradient!r} needs to know what the vector field depends on, and it is no torch.nn.Module: "
        f"pass parameters=(...), which may be empty, or use gradient='backprop'"
    )
