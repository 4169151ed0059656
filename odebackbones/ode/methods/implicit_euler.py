"""Backward Euler, by its series or by fixed-point iterations."""

import copy

import torch
from torch import Tensor

from odebackbones.errors import SolverError
from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.base import Carry, Method, VectorField
from odebackbones.ode.tuples import parts


class ImplicitEulerSeries(Method):
    r"""Backward Euler by its truncated series: :math:`x_{n+1} = \sum_{k \le d} (h F)^k x_n \approx (I - h F)^{-1} x_n`.

    F is the field at the step's start (the iterations use its end, as the method is defined). With degree 1 this is
    Euler's method, and with degree 2 PolyNet's block I + F + F², with a separate F in every step. Powers are
    compositions, so this is a solver for fields with f(t, 0) = 0.

    X. Zhang, Z. Li, C. C. Loy, D. Lin: PolyNet: A Pursuit of Structural Diversity in Very Deep Networks, CVPR 2017,
    arXiv:1611.05725

    Args:
        degree: Degree d, the number of evaluations in a step.
        grid: Start and length of every step.
    """

    def __init__(self, *, degree: int, grid: Grid) -> None:
        super().__init__(grid=grid, times=[[t] * degree for t, _ in grid])
        self.degree = degree

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Advance the state from the start to the end of step ``i``."""
        h = self.grid[i][1]
        power, total = carry[0], carry[0]
        for k in range(self.degree):
            slope = field(self.times[i][k], power)
            total = torch.add(total, slope, alpha=h)
            if k + 1 < self.degree:
                power = h * slope
        return [total]


class ConvergenceError(SolverError):
    """Error for iterations that don't converge, raised where the solve's name is not known yet."""


class ImplicitEuler(Method):
    r"""Backward Euler, :math:`x_{n+1} = x_n + h f(t_n + h, x_{n+1})`, by fixed-point iterations to a tolerance.

    The iterations converge where h times the field's Lipschitz constant is below 1. Their number is known only after
    the step: the copy of :meth:`for_solve` then has it in ``times``.

    Args:
        rtol: Relative tolerance: iterations stop at a change below atol + rtol |x| (maximum norms, for every
            tensor of a tuple).
        atol: Absolute tolerance.
        max_nfe: Limit on the evaluations of a solve, or None.
        grid: Start and length of every step.
    """

    MAX_ITERATIONS = 100

    def __init__(self, *, rtol: float, atol: float, max_nfe: int | None, grid: Grid) -> None:
        super().__init__(grid=grid, times=[[t + h] for t, h in grid])
        self.max_nfe = max_nfe
        self.rtol = rtol
        self.atol = atol

    def for_solve(self) -> "ImplicitEuler":
        """Return a copy that notes how often each step evaluates the field."""
        copied = copy.copy(self)
        copied.times = [times[:1] for times in self.times]
        return copied

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Advance the state from the start to the end of step ``i``."""
        t, h = self.grid[i]
        end, used = carry[0], sum(map(len, self.times[:i]))
        allowed = self.MAX_ITERATIONS if self.max_nfe is None else min(self.MAX_ITERATIONS, self.max_nfe - used)
        for iteration in range(1, allowed + 1):
            previous, end = end, torch.add(carry[0], field(t + h, end), alpha=h)
            if self.converged(field, previous.detach(), end.detach()):
                self.times[i] = [t + h] * iteration
                return [end]
        more = "" if self.max_nfe is None else f"a larger max_nfe than {self.max_nfe}, "
        raise ConvergenceError(
            f"implicit_euler: no convergence in {allowed} fixed-point iterations of step {i + 1} of {len(self.grid)} "
            f"(t = {t + h:g}, {used} evaluations before it); take more steps, a looser rtol, {more}or degree=... for "
            f"the truncated series"
        )

    def converged(self, field: VectorField, previous: Tensor, latest: Tensor) -> bool:
        """Whether an iteration changed little; a state that is not finite is left to the check of the end state."""
        pairs = zip(parts(field, previous), parts(field, latest), strict=True)
        return all(self.is_near(before, after) for before, after in pairs if after.numel())

    def is_near(self, previous: Tensor, latest: Tensor) -> bool:
        """Whether one tensor has converged, as in :meth:`converged`."""
        change, size = (latest - previous).abs().max(), latest.abs().max()
        return bool((change <= self.atol + self.rtol * size) | ~torch.isfinite(size))
