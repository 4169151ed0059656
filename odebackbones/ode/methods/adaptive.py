"""Methods that find their own steps, which then are a grid like any other."""

from dataclasses import dataclass

from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.runge_kutta import ReusedSlope, RungeKutta
from odebackbones.ode.methods.tableaus import ADAPTIVE_TABLEAUS

REUSING = frozenset({"adaptive_heun"})
"""Methods whose steps torchdiffeq begins with a slope that is not the one at their state."""


@dataclass(frozen=True)
class AdaptiveMethod:
    """A method whose grid every solve finds.

    Attributes:
        name: In :data:`~odebackbones.ode.methods.tableaus.ADAPTIVE_TABLEAUS`.
        t_span: Start and end.
    """

    name: str
    t_span: tuple[float, float]

    def on_grid(self, grid: Grid) -> RungeKutta:
        """The method with these steps."""
        kind = ReusedSlope if self.name in REUSING else RungeKutta
        return kind(tableau=ADAPTIVE_TABLEAUS[self.name], grid=grid)
