"""Explicit Runge-Kutta methods, each defined by a tableau."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.base import Carry, Method, VectorField
from odebackbones.ode.methods.tableaus import Tableau


def combine(state: Tensor, slopes: list[Tensor], weights: Sequence[float], h: float) -> Tensor:
    """Compute ``state + h * sum_j weights[j] * slopes[j]`` in one new tensor, to which the later slopes are added."""
    fresh = False
    for slope, weight in zip(slopes, weights, strict=True):
        if weight != 0.0:
            state = state.add_(slope, alpha=h * weight) if fresh else torch.add(state, slope, alpha=h * weight)
            fresh = True
    return state


def last_uses(tableau: Tableau) -> list[int]:
    """Return the last stage that uses each slope; the step's end counts as one more stage."""
    rows = [*tableau.a, tableau.b]
    return [max((i for i, row in enumerate(rows) if j < len(row) and row[j]), default=j) for j in range(len(tableau.b))]


class RungeKutta(Method):
    r"""An explicit Runge-Kutta method, projected or not.

    A projected method ends every stage and step at the nearest non-negative state, and so solves the projected
    dynamical system :math:`x' = \Pi_{\ge 0}(x, f(t, x))`. Its Euler step
    :math:`x_{n+1} = \max(0, x_n + h f(t_n, x_n))` is the residual block whose ReLU follows the addition.

    P. Dupuis, A. Nagurney: Dynamical Systems and Variational Inequalities, Annals of Operations Research 44, 1993

    Args:
        tableau: The method's coefficients.
        grid: Start and length of every step.
        projected: Whether to project.
    """

    def __init__(self, *, tableau: Tableau, grid: Grid, projected: bool = False) -> None:
        super().__init__(grid=grid, times=[[t + c * h for c in tableau.c] for t, h in grid])
        self.a, self.b = tableau.a, tableau.b
        self.last_uses = last_uses(tableau)
        self.projected = projected

    def slopes(self, field: VectorField, i: int, state: Tensor) -> list[Tensor]:
        """Evaluate the slopes of step ``i`` from ``state``."""
        h = self.grid[i][1]
        slopes: list[Tensor] = []
        for stage, t in enumerate(self.times[i]):
            slopes.append(field(t, self.stage_state(stage, state, slopes, h)))
        return slopes

    def stage_state(self, stage: int, state: Tensor, slopes: list[Tensor], h: float) -> Tensor:
        """Return the state of a stage; to save memory, replace slopes not used after it by ``state``."""
        found = self.combine(state, slopes, self.a[stage], h)
        for j in range(stage):
            if self.last_uses[j] == stage:
                slopes[j] = state
        return found

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Advance the state from the start to the end of step ``i``."""
        return [self.combine(carry[0], self.slopes(field, i, carry[0]), self.b, self.grid[i][1])]

    def combine(self, state: Tensor, slopes: list[Tensor], weights: Sequence[float], h: float) -> Tensor:
        """Combine as :func:`combine` does, and project if this method is projected."""
        end = combine(state, slopes, weights, h)
        return F.relu(end, inplace=True) if self.projected and len(slopes) > 0 else end


class ReusedSlope(RungeKutta):
    """A Runge-Kutta method whose steps begin with the last slope of the previous step instead of a new slope.

    torchdiffeq's adaptive_heun works like this: Heun's method in "predict, evaluate, correct" mode. The carry is the
    state and that slope.
    """

    def __init__(self, *, tableau: Tableau, grid: Grid) -> None:
        super().__init__(tableau=tableau, grid=grid)
        self.times[1:] = [times[1:] for times in self.times[1:]]

    def start(self, field: VectorField, state: Tensor) -> Carry:
        """Return the state and its slope."""
        return [state, field(self.grid[0][0], state)]

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Return the state at the end of step ``i`` and the latest slope."""
        h, slopes = self.grid[i][1], [carry[1]]
        for t in self.times[i][-(len(self.b) - 1) :]:
            slopes.append(field(t, combine(carry[0], slopes, self.a[len(slopes)], h)))
        return [combine(carry[0], slopes, self.b, h), slopes[-1]]
