"""Butcher tableaus of explicit Runge-Kutta methods, as data.

E. Hairer, S. P. Nørsett, G. Wanner: Solving Ordinary Differential Equations I, 2nd ed., 1993, chapter II.
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
    "ralston": Tableau(order=2, a=((), (2 / 3,)), b=(1 / 4, 3 / 4), c=(0.0, 2 / 3)),
    "rk3": Tableau(order=3, a=((), (1 / 2,), (-1.0, 2.0)), b=(1 / 6, 2 / 3, 1 / 6), c=(0.0, 1 / 2, 1.0)),
    "rk4": Tableau(
        order=4,
        a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
        c=(0.0, 1 / 3, 2 / 3, 1.0),
    ),
    "rk4_classic": Tableau(
        order=4,
        a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        c=(0.0, 1 / 2, 1 / 2, 1.0),
    ),
}
"""Method on a fixed grid -> tableau. ``rk4`` is the 3/8 rule, like torchdiffeq's ``rk4``; ``rk4_classic`` and ``rk3``
are Kutta's; ``ralston`` has the least error bound of the methods of order 2 (A. Ralston, Math. Comp. 16, 1962)."""

ADAPTIVE_TABLEAUS: dict[str, Tableau] = {
    "adaptive_heun": TABLEAUS["heun"],
    "bosh3": Tableau(order=3, a=((), (1 / 2,), (0.0, 3 / 4)), b=(2 / 9, 1 / 3, 4 / 9), c=(0.0, 1 / 2, 3 / 4)),
    "dopri5": Tableau(
        order=5,
        a=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        ),
        b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
    ),
    "dopri8": Tableau(
        order=8,
        a=(
            (),
            (1 / 18,),
            (1 / 48, 1 / 16),
            (1 / 32, 0.0, 3 / 32),
            (5 / 16, 0.0, -75 / 64, 75 / 64),
            (3 / 80, 0.0, 0.0, 3 / 16, 3 / 20),
            (
                *(29443841 / 614563906, 0.0, 0.0, 77736538 / 692538347),
                *(-28693883 / 1125000000, 23124283 / 1800000000),
            ),
            (
                *(16016141 / 946692911, 0.0, 0.0, 61564180 / 158732637),
                *(22789713 / 633445777, 545815736 / 2771057229, -180193667 / 1043307555),
            ),
            (
                *(39632708 / 573591083, 0.0, 0.0, -433636366 / 683701615),
                *(-421739975 / 2616292301, 100302831 / 723423059, 790204164 / 839813087, 800635310 / 3783071287),
            ),
            (
                *(246121993 / 1340847787, 0.0, 0.0, -37695042795 / 15268766246),
                *(-309121744 / 1061227803, -12992083 / 490766935, 6005943493 / 2108947869, 393006217 / 1396673457),
                123872331 / 1001029789,
            ),
            (
                *(-1028468189 / 846180014, 0.0, 0.0, 8478235783 / 508512852),
                *(1311729495 / 1432422823, -10304129995 / 1701304382, -48777925059 / 3047939560),
                *(15336726248 / 1032824649, -45442868181 / 3398467696, 3065993473 / 597172653),
            ),
            (
                *(185892177 / 718116043, 0.0, 0.0, -3185094517 / 667107341),
                *(-477755414 / 1098053517, -703635378 / 230739211, 5731566787 / 1027545527),
                *(5232866602 / 850066563, -4093664535 / 808688257, 3962137247 / 1805957418, 65686358 / 487910083),
            ),
            (
                *(403863854 / 491063109, 0.0, 0.0, -5068492393 / 434740067),
                *(-411421997 / 543043805, 652783627 / 914296604, 11173962825 / 925320556),
                *(-13158990841 / 6184727034, 3936647629 / 1978049680, -160528059 / 685178525, 248638103 / 1413531060),
                0.0,
            ),
        ),
        b=(
            *(14005451 / 335480064, 0.0, 0.0, 0.0, 0.0, -59238493 / 1068277825, 181606767 / 758867731),
            *(561292985 / 797845732, -1041891430 / 1371343529, 760417239 / 1151165299),
            *(118820643 / 751138087, -528747749 / 2220607170, 1 / 4),
        ),
        c=(
            *(0.0, 1 / 18, 1 / 12, 1 / 8, 5 / 16, 3 / 8, 59 / 400, 93 / 200, 5490023248 / 9719169821, 13 / 20),
            *(1201146811 / 1299019798, 1.0, 1.0),
        ),
    ),
}
"""Adaptive method -> the tableau that advances its solution; torchdiffeq estimates the error and picks the steps.

P. Bogacki, L. F. Shampine: A 3(2) Pair of Runge-Kutta Formulas, Appl. Math. Lett. 2, 1989.
J. R. Dormand, P. J. Prince: A Family of Embedded Runge-Kutta Formulae, J. Comput. Appl. Math. 6, 1980 (``dopri5``).
P. J. Prince, J. R. Dormand: High Order Embedded Runge-Kutta Formulae, J. Comput. Appl. Math. 7, 1981 (``dopri8``).
"""
