"""Butcher tableaus of explicit Runge-Kutta methods, as data.

E. Hairer, S. P. Nørsett, G. Wanner: Solving Ordinary Differential Equations I, 2nd ed., 1993, chapter II.1.
"""

from typing import NamedTuple


class Tableau(NamedTuple):
    r"""Coefficients of one explicit Runge-Kutta step with s stages.

    .. math::
        k_i = f(t + c_i h,\; x + h \sum_{j<i} a_{ij} k_j), \qquad x(t + h) \approx x + h \sum_i b_i k_i
    """

    order: int
    """Order of convergence."""
    a: tuple[tuple[float, ...], ...]
    """Row i holds the i coefficients of the earlier slopes."""
    b: tuple[float, ...]
    c: tuple[float, ...]

    @property
    def stages(self) -> int:
        """Evaluations of the vector field in one step."""
        return len(self.c)


TABLEAUS: dict[str, Tableau] = {
    "euler": Tableau(order=1, a=((),), b=(1.0,), c=(0.0,)),
    "midpoint": Tableau(order=2, a=((), (1 / 2,)), b=(0.0, 1.0), c=(0.0, 1 / 2)),
    "heun": Tableau(order=2, a=((), (1.0,)), b=(1 / 2, 1 / 2), c=(0.0, 1.0)),
    "rk4": Tableau(
        order=4,
        a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        c=(0.0, 1 / 2, 1 / 2, 1.0),
    ),
}
"""Method name -> tableau; ``rk4`` is the classic one (torchdiffeq's ``rk4`` is the 3/8 rule)."""
