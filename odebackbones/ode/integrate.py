"""``odeint``: solve an initial value problem."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.gradients import solve
from odebackbones.ode.solvers import RungeKutta, SolverConfig, VectorField, build_integrator
from odebackbones.ode.stats import SolverStats


@dataclass(frozen=True)
class Solution:
    """The end state of a solve, and what it cost."""

    state: Tensor
    stats: SolverStats


def integrate(integrator: RungeKutta, state: Tensor, *, gradient: str, parameters: Sequence[Tensor]) -> Solution:
    """Run ``integrator`` from ``state: (B, ...)`` in a gradient mode and count what it costs."""
    end, nfe_backward = solve(integrator, state, gradient=gradient, parameters=parameters)
    return Solution(end, SolverStats(nfe=integrator.nfe, nfe_backward=nfe_backward, steps=len(integrator.grid)))


def odeint(
    vector_field: VectorField,
    state: Tensor,
    t_span: tuple[float, float] = (0.0, 1.0),
    solver: SolverConfig = SolverConfig(),  # noqa: B008 (frozen)
    *,
    parameters: Iterable[Tensor] | None = None,
) -> Solution:
    r"""Solve :math:`x'(t) = f(t, x),\; x(t_0) = x_0` for :math:`x(t_1)`.

    Args:
        vector_field: :math:`f(t, x)`; ``t`` is a float, ``x`` has the shape of ``state``. One with normalisation
            layers must be a module: layers in a closure can't be seen, and would count a recomputed batch twice.
        state: :math:`x_0`: ``(B, ...)``, any shape.
        t_span: ``(t0, t1)``; time may run backward.
        solver: Method, steps and gradient mode.
        parameters: Tensors besides ``state`` that the field depends on and that want gradients; by default the
            parameters of a field that is a module. Needed with ``gradient="checkpoint"`` and any other callable:
            pass ``()`` if there are none.

    Returns:
        The end state, of the shape of ``state``, and the statistics of the solve.

    Raises:
        InputError: The time span is empty, or ``parameters`` are needed and missing.

    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018,
    arXiv:1806.07366
    """
    parameters = field_parameters(vector_field, solver.gradient) if parameters is None else tuple(parameters)
    integrator = build_integrator(vector_field, t_span, solver)
    return integrate(integrator, state, gradient=solver.gradient, parameters=parameters)


def field_parameters(vector_field: VectorField, gradient: str) -> tuple[Tensor, ...]:
    """The parameters of a field that is a module; a closure's can't be seen, so they are asked for where needed."""
    if isinstance(vector_field, nn.Module):
        return tuple(vector_field.parameters())
    if gradient == "checkpoint":
        raise InputError(
            "gradient='checkpoint' needs to know what the vector field depends on, and it is no torch.nn.Module: "
            "pass parameters=(...), which may be empty, or use gradient='backprop'"
        )
    return ()
