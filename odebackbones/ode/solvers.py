"""Solvers on a fixed grid: the loop over the steps, and the Runge-Kutta step that it takes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError, unknown_name
from odebackbones.ode.tableaus import TABLEAUS, Tableau

VectorField = Callable[[float, Tensor], Tensor]
"""``vector_field(t, state) -> d state / dt``, with ``t`` a Python float and both tensors of one shape.

A float, because the times of a fixed grid are constants of the graph: nothing to trace, copy or wait for.
"""

GRADIENTS = ("checkpoint", "backprop")
"""How the backward pass gets the states: recompute each step from its start, or keep everything."""


@dataclass(frozen=True)
class SolverConfig:
    """Which method integrates, with how many steps, and how its gradient is computed.

    Args:
        method: A name in :data:`~odebackbones.ode.tableaus.TABLEAUS`.
        steps: Equal steps over the whole time span.
        gradient: ``"checkpoint"`` stores one state a step and evaluates the field once more in the backward pass;
            ``"backprop"`` stores all activations.
    """

    method: str = "midpoint"
    steps: int = 4
    gradient: str = "checkpoint"

    def __post_init__(self) -> None:
        if self.method not in TABLEAUS:
            raise unknown_name("solver", self.method, TABLEAUS)
        if self.gradient not in GRADIENTS:
            raise unknown_name("gradient mode", self.gradient, GRADIENTS)
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps={self.steps!r}: expected a whole number of at least 1")


def uniform_grid(t_span: tuple[float, float], steps: int) -> list[tuple[float, float]]:
    """The starts and lengths ``(t, h)`` of equal steps over ``t_span``; h is negative if time runs backward."""
    t0, t1 = t_span
    h = (t1 - t0) / steps
    return [(t0 + i * h, h) for i in range(steps)]


def evaluation_times(solver: SolverConfig, t_span: tuple[float, float] = (0.0, 1.0)) -> list[float]:
    """The distinct times, ascending, at which a solve over ``t_span`` evaluates its vector field."""
    grid = uniform_grid(t_span, solver.steps)
    times = sorted(t + c * h for t, h in grid for c in TABLEAUS[solver.method].c)
    tolerance = 1e-9 * abs(t_span[1] - t_span[0])
    return [t for i, t in enumerate(times) if i == 0 or t - times[i - 1] > tolerance]


def combine(state: Tensor, slopes: list[Tensor], weights: list[float], h: float) -> Tensor:
    """``state + h * sum_j weights[j] * slopes[j]``, without temporaries."""
    for slope, weight in zip(slopes, weights):  # noqa: B905 (TorchScript knows no `strict`)
        if weight != 0.0:
            state = torch.add(state, slope, alpha=h * weight)
    return state


class RungeKutta(nn.Module):
    """An explicit Runge-Kutta method, unrolled over a fixed grid.

    A module, and a plain loop over floats, so that torch.fx, TorchScript, torch.export and ONNX follow it.

    Args:
        vector_field: The field; if it is a module, it becomes a submodule.
        tableau: The method's coefficients.
        grid: Start and length of every step.

    Shape:
        ``state: (B, ...) -> (B, ...)``
    """

    a: list[list[float]]
    b: list[float]
    c: list[float]
    grid: list[tuple[float, float]]

    def __init__(self, vector_field: VectorField, *, tableau: Tableau, grid: list[tuple[float, float]]) -> None:
        super().__init__()
        self.vector_field = vector_field
        self.a = [list(row) for row in tableau.a]
        self.b = list(tableau.b)
        self.c = list(tableau.c)
        self.grid = grid

    @property
    def nfe(self) -> int:
        """Evaluations of the vector field in one solve."""
        return len(self.c) * len(self.grid)

    def step(self, t: float, h: float, state: Tensor) -> Tensor:
        """The state at ``t + h`` from the one at ``t``."""
        slopes: list[Tensor] = []
        for i in range(len(self.c)):
            slopes.append(self.vector_field(t + self.c[i] * h, combine(state, slopes, self.a[i], h)))
        return combine(state, slopes, self.b, h)

    def forward(self, state: Tensor) -> Tensor:
        """The state at the end of the grid from the one at its start."""
        for t, h in self.grid:
            state = self.step(t, h, state)
        return state


def build_integrator(vector_field: VectorField, t_span: tuple[float, float], solver: SolverConfig) -> RungeKutta:
    """The method that ``solver`` names, on a uniform grid over ``t_span``."""
    if t_span[0] == t_span[1]:
        raise InputError(f"t_span={t_span}: start and end are equal; give an interval of some length")
    return RungeKutta(vector_field, tableau=TABLEAUS[solver.method], grid=uniform_grid(t_span, solver.steps))
