"""Weights of the Adams-Bashforth methods on any grid."""

import numpy as np

from odebackbones.ode.grids import Grid


def adams_bashforth_weights(grid: Grid, order: int) -> list[list[float]]:
    r"""For every step n the weights :math:`w_{nj}` of the slopes at :math:`t_n, t_{n-1}, \dots`.

    :math:`w_{nj} = \frac{1}{h_n} \int_{t_n}^{t_n + h_n} \prod_{i \ne j} \frac{t - t_{n-i}}{t_{n-j} - t_{n-i}} \, dt`:
    the polynomial through the last ``order`` slopes, or through all while there are fewer, is integrated.

    Args:
        grid: Start and length of every step.
        order: Slopes in use.
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
