r"""Reversible methods as data: a pair of tensors, and updates of each by a multiple of the slope at the other.

Each update :math:`z_a \leftarrow s z_a + w\,g(z_b)` with :math:`a \ne b`, where g is the field or the identity, can be
undone from its result if s is 1 or -1: :math:`z_a \leftarrow s (z_a - w\,g(z_b))`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.base import Carry, Method, VectorField


class CoupledUpdate(NamedTuple):
    """``pair[target] = factor * pair[target] + weight * g(pair[source])``; g is the field at ``t`` or the identity."""

    target: int
    source: int
    factor: float
    weight: float
    evaluates: bool
    t: float


class Scheme(NamedTuple):
    """A reversible method on a grid."""

    initial: tuple[float, float]
    """The initial pair, in multiples of the initial state: (1, 0) or (1, 1)."""
    steps: list[list[CoupledUpdate]]
    """The updates of every step."""
    output: tuple[float, float]
    """The final state, in multiples of the last pair: (1, 0), (0, 1) or (1/2, 1/2)."""
    magnitudes: tuple[float, float] = (1.0, 1.0)
    """Sizes of the two tensors' numbers, in units of the state."""


def leapfrog(grid: Grid) -> Scheme:
    r"""The explicit midpoint rule :math:`x_{n+1} = x_{n-1} + (h_{n-1} + h_n) f(t_n, x_n)`, begun by an Euler step.

    It has order 2 on a uniform (or smoothly varying) grid, and is not stable for fields that contract strongly.

    W. B. Gragg: On Extrapolation Algorithms for Ordinary Initial Value Problems, SIAM J. Numer. Anal. 2, 1965
    """
    lengths = [0.0, *(h for _, h in grid)]
    steps = [
        [CoupledUpdate(i % 2, 1 - i % 2, 1.0, lengths[i] + lengths[i + 1], evaluates=True, t=t)]
        for i, (t, _) in enumerate(grid)
    ]
    latest = (len(grid) - 1) % 2
    return Scheme((1.0, 1.0), steps, (float(latest == 0), float(latest == 1)))


def reversible_heun(grid: Grid) -> Scheme:
    r"""Reversible Heun: the leapfrog :math:`\hat x_n`, with Gragg's smoothing at the end.

    With :math:`2 x_n + h f(\hat x_n) = \hat x_n + \hat x_{n+1}` the paper's
    :math:`\hat x_{n+1} = 2 x_n - \hat x_n + h f(\hat x_n)`,
    :math:`x_{n+1} = x_n + \frac{h}{2}(f(\hat x_n) + f(\hat x_{n+1}))` is the leapfrog for :math:`\hat x`, and
    :math:`x_N = \frac12(\hat x_{N-1} + \hat x_N + h f(\hat x_N))`.

    P. Kidger, J. Foster, X. Li, T. Lyons: Efficient and Accurate Gradients for Neural SDEs, NeurIPS 2021,
    arXiv:2105.13493
    """
    scheme, (t, h) = leapfrog(grid), grid[-1]
    latest = (len(grid) - 1) % 2
    smoothing = CoupledUpdate(1 - latest, latest, 1.0, h, evaluates=True, t=t + h)
    return scheme._replace(steps=[*scheme.steps[:-1], [*scheme.steps[-1], smoothing]], output=(0.5, 0.5))


def alf(grid: Grid, damping: float = 1.0) -> Scheme:
    r"""Asynchronous leapfrog on state and velocity.

    It starts with :math:`v_0 = f(t_0, x_0)`; then in each step
    :math:`m = x_n + \frac{h}{2} v_n,\; v_{n+1} = (1 - 2\eta) v_n + 2 \eta f(t_n + \frac{h}{2}, m),\;
    x_{n+1} = m + \frac{h}{2} v_{n+1}`. The pair is (m, v); neighboring half steps are merged into one
    update. Only :math:`\eta = 1`, which has order 2, can be undone exactly; a smaller value damps v and has order 1.

    J. Zhuang, N. C. Dvornek, S. Tatikonda, J. S. Duncan: MALI: A Memory Efficient and Reverse Accurate Integrator for
    Neural ODEs, ICLR 2021, arXiv:2102.04668

    Args:
        grid: Start and length of every step.
        damping: Coefficient :math:`\eta` in (0, 1].
    """
    t0, h0 = grid[0]
    steps = []
    for i, (t, h) in enumerate(grid):
        following = grid[i + 1][1] if i + 1 < len(grid) else 0.0
        velocity = CoupledUpdate(1, 0, 1.0 - 2.0 * damping, 2.0 * damping, evaluates=True, t=t + h / 2)
        steps.append([velocity, CoupledUpdate(0, 1, 1.0, (h + following) / 2, evaluates=False, t=t)])
    first = [
        CoupledUpdate(1, 0, 1.0, 1.0, evaluates=True, t=t0),
        CoupledUpdate(0, 1, 1.0, h0 / 2, evaluates=False, t=t0),
    ]
    steps[0] = [*first, *steps[0]]
    shortest = min(abs(h) for _, h in grid)
    return Scheme((1.0, 0.0), steps, (1.0, 0.0), (1.0, 2.0 ** math.ceil(-math.log2(shortest))))


class ReversibleMethod(Method):
    """A reversible method in the state's own arithmetic; its carry is the pair.

    Args:
        scheme: The method's updates.
        grid: Start and length of every step.
    """

    def __init__(self, *, scheme: Scheme, grid: Grid) -> None:
        super().__init__(grid=grid, times=[[update.t for update in step if update.evaluates] for step in scheme.steps])
        self.scheme = scheme

    def start(self, field: VectorField, state: Tensor) -> Carry:
        """Return the pair before the first update."""
        return [state, state if self.scheme.initial[1] == 1.0 else torch.zeros_like(state)]

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Return the pair after step ``i``."""
        pair = [carry[0], carry[1]]
        for target, source, factor, weight, evaluates, t in self.scheme.steps[i]:
            slope = field(t, pair[source]) if evaluates else pair[source]
            kept = pair[target] if factor == 1.0 else factor * pair[target]
            pair[target] = torch.add(kept, slope, alpha=weight)
        return pair

    def finish(self, carry: Carry) -> Tensor:
        """Return the final state."""
        output = self.scheme.output
        if output[0] == 0.5:
            return torch.lerp(carry[0], carry[1], 0.5)
        return carry[0] if output[0] == 1.0 else carry[1]
