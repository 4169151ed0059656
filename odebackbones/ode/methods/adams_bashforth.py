"""The Adams-Bashforth methods on uniform and uneven grids."""

import numpy as np

from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.base import Carry, VectorField
from odebackbones.ode.methods.runge_kutta import RungeKutta, combine
from odebackbones.ode.methods.tableaus import Tableau


class AdamsBashforth(RungeKutta):
    r"""The explicit k-step Adams method: :math:`x_{n+1} = x_n + h_n \sum_{j<k} w_{nj} f(t_{n-j}, x_{n-j})`.

    The weights depend on the grid, which may be uneven. The first k - 1 steps are Runge-Kutta steps of order k.
    The carry is the state and the slopes at the earlier times, the latest first.

    E. Hairer, S. P. Nørsett, G. Wanner: Solving Ordinary Differential Equations I, 2nd ed., 1993, chapter III.5
    (variable step sizes).

    Args:
        order: Number of steps k.
        starter: Tableau of the first k - 1 steps.
        grid: Start and length of every step.
    """

    def __init__(self, *, order: int, starter: Tableau, grid: Grid) -> None:
        super().__init__(tableau=starter, grid=grid)
        self.order = order
        self.last_uses = [starter.stages] * starter.stages  # the first slope is used in later steps
        self.weights = adams_bashforth_weights(grid, order)
        self.times[order - 1 :] = [[t] for t, _ in grid[order - 1 :]]

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Return the state after step ``i``, and the latest slopes."""
        state, latest, h = carry[0], carry[1:], self.grid[i][1]
        if i < self.order - 1:
            slopes = self.slopes(field, i, state)
            latest.insert(0, slopes[0])
            end = combine(state, slopes, self.b, h)
        else:
            latest.insert(0, field(self.times[i][0], state))
            end = combine(state, latest, self.weights[i], h)
        return [end, *latest[: self.order - 1]]


def adams_bashforth_weights(grid: Grid, order: int) -> list[list[float]]:
    r"""Return for every step n the weights :math:`w_{nj}` of the slopes at :math:`t_n, t_{n-1}, \dots`.

    :math:`w_{nj} = \frac{1}{h_n} \int_{t_n}^{t_n + h_n} \prod_{i \ne j} \frac{t - t_{n-i}}{t_{n-j} - t_{n-i}} \, dt`:
    the polynomial through the last ``order`` slopes, or through all while there are fewer, is integrated.

    Args:
        grid: Start and length of every step.
        order: Number of slopes in use.
    """
    weights = []
    for n, (t, h) in enumerate(grid):
        nodes = [(grid[n - j][0] - t) / h for j in range(min(order, n + 1))]
        weights.append([lagrange_integral(nodes, j) for j in range(len(nodes))])
    return weights


def lagrange_integral(nodes: list[float], j: int) -> float:
    """The integral over [0, 1] of the polynomial that is 1 at node ``j`` and 0 at the others."""
    others = [node for i, node in enumerate(nodes) if i != j]
    basis = np.poly1d(others, r=True) if others else np.poly1d([1.0])
    return float(basis.integ()(1.0) / basis(nodes[j]))
