"""Methods that find their own steps, which then form a grid like any other."""

from dataclasses import dataclass

from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.runge_kutta import ReusedSlope, RungeKutta
from odebackbones.ode.methods.tableaus import ADAPTIVE_TABLEAUS

REUSING = frozenset({"adaptive_heun"})
"""Methods whose steps torchdiffeq begins with a slope that was not evaluated at the step's state."""


@dataclass(frozen=True)
class AdaptiveMethod:
    """A method whose grid is found by each solve.

    Attributes:
        name: Name in :data:`~odebackbones.ode.methods.tableaus.ADAPTIVE_TABLEAUS`.
        t_span: Start and end.
    """

    name: str
    t_span: tuple[float, float]

    def on_grid(self, grid: Grid) -> RungeKutta:
        """Build the method with these steps."""
        kind = ReusedSlope if self.name in REUSING else RungeKutta
        return kind(tableau=ADAPTIVE_TABLEAUS[self.name], grid=grid)
