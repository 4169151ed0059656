"""The ODE block: a vector field and a solver where a ResNet stage has its identity blocks."""

import torch
from torch import Tensor, nn

from odebackbones.errors import InputError
from odebackbones.ode.integrate import Solution, integrate
from odebackbones.ode.solvers import SolverConfig, build_integrator
from odebackbones.ode.stats import SolverStats


class ODEBlock(nn.Module):
    r"""The flow of a vector field over ``t_span``: :math:`x(t_1) = x(t_0) + \int f(t, x(t))\,dt`.

    Args:
        vector_field: :math:`f(t, x)`, usually a module of :mod:`odebackbones.fields`.
        solver: Method, steps and gradient mode.
        t_span: Start and end time.

    Shape:
        ``x: (B, C, H, W) -> (B, C, H, W)``
    """

    def __init__(
        self, vector_field: nn.Module, solver: SolverConfig, *, t_span: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        super().__init__()
        if not isinstance(vector_field, nn.Module):
            raise InputError(
                f"vector_field={vector_field!r}: expected a torch.nn.Module; for other callables use odeint"
            )
        self.solver = solver
        self.gradient = solver.gradient
        self.integrator = build_integrator(vector_field, t_span, solver)

    def forward(self, x: Tensor) -> Tensor:
        """The state at the end of the time span."""
        if torch.jit.is_scripting():
            return self.integrator(x)
        return self.solve(x).state

    @torch.jit.unused
    def solve(self, x: Tensor) -> Solution:
        """The state at the end of the time span, with the cost of getting there."""
        return integrate(self.integrator, x, gradient=self.gradient, parameters=tuple(self.integrator.parameters()))

    @torch.jit.unused
    def planned_stats(self) -> SolverStats:
        """What a solve with gradients costs: known beforehand, as the grid is fixed."""
        nfe = self.integrator.nfe
        recomputed = nfe if self.gradient == "checkpoint" else 0
        return SolverStats(nfe=nfe, nfe_backward=recomputed, steps=len(self.integrator.grid))

    def extra_repr(self) -> str:
        """Method, steps and gradient mode."""
        return f"method={self.solver.method}, steps={self.solver.steps}, gradient={self.gradient}"


def solver_stats(model: nn.Module) -> dict[str, SolverStats]:
    """The planned cost of every ODE block in ``model``, by module name; empty for a discrete network."""
    return {name: block.planned_stats() for name, block in model.named_modules() if isinstance(block, ODEBlock)}
