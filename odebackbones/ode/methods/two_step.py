"""The linear two-step method of LM-ResNet, which learns its coefficients."""

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.base import Carry, Method, VectorField


class LinearTwoStep(Method, nn.Module):
    r"""LM-ResNet: :math:`x_{n+1} = (1 - k_n) x_n + k_n x_{n-1} + h f(t_n, x_n)` with a learnable :math:`k_n` per step.

    Initially all :math:`k_n` are zero, which is Euler's method. A constant k solves
    :math:`(1 + k) x' = f`: the greater k, the slower time runs (the paper's modified equation).

    Y. Lu, A. Zhong, Q. Li, B. Dong: Beyond Finite Layer Neural Networks: Bridging Deep Architectures and Numerical
    Differential Equations, ICML 2018, arXiv:1710.10121

    It is a module because its coefficients are parameters: they belong to the block that has this method.
    """

    def __init__(self, *, grid: Grid) -> None:
        nn.Module.__init__(self)
        Method.__init__(self, grid=grid, times=[[t] for t, _ in grid])
        self.coefficients = nn.Parameter(torch.zeros(len(grid)))

    def take_coefficients(self, other: "LinearTwoStep") -> None:
        """Take over the coefficients of ``other``.

        Raises:
            InputError: The coefficients belong to other steps.
        """
        if other.grid != self.grid:
            raise InputError("the coefficients of solver 'lm' belong to its steps: keep them, or take another method")
        self.coefficients = other.coefficients

    def start(self, field: VectorField, state: Tensor) -> Carry:
        """Return the state twice: before the first step it has not moved."""
        return [state, state]

    def step(self, field: VectorField, i: int, carry: Carry) -> Carry:
        """Return the states at the end and at the start of step ``i``."""
        t, h = self.grid[i]
        state, previous = carry[0], carry[1]
        coefficient = self.coefficients[i].to(state.dtype)
        moved = torch.lerp(state, previous, coefficient)
        return [torch.add(moved, field(t, state), alpha=h), state]
