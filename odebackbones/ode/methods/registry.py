"""The available methods, as data: how each is built, and what it can do."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from odebackbones.ode.grids import Grid
from odebackbones.ode.methods.adams_bashforth import AdamsBashforth
from odebackbones.ode.methods.base import Method
from odebackbones.ode.methods.fixed_point import FORMATS, FixedPointReversibleMethod
from odebackbones.ode.methods.implicit_euler import ImplicitEuler, ImplicitEulerSeries
from odebackbones.ode.methods.reversible import ReversibleMethod, Scheme, alf, leapfrog, reversible_heun
from odebackbones.ode.methods.runge_kutta import RungeKutta
from odebackbones.ode.methods.tableaus import ADAPTIVE_TABLEAUS, TABLEAUS
from odebackbones.ode.methods.two_step import LinearTwoStep

if TYPE_CHECKING:
    from odebackbones.ode.solvers import SolverConfig


class MethodInfo(NamedTuple):
    """The builder and the properties of a method."""

    order: int
    """Order of convergence on uniform grids."""
    build: Callable[[Grid, "SolverConfig"], Method] | None
    """Function that builds the method on a grid; None for adaptive methods, whose grid the solve finds."""
    reversible: bool = False
    """Whether the method can be run backward exactly."""
    torchdiffeq: str = ""
    """torchdiffeq's name of the method, which the adjoint needs."""


def runge_kutta(name: str, torchdiffeq: str = "") -> MethodInfo:
    """Describe the explicit Runge-Kutta method with the tableau ``name``."""
    tableau = TABLEAUS[name]

    def build(grid: Grid, solver: "SolverConfig") -> Method:
        return RungeKutta(tableau=tableau, grid=grid, projected=solver.projected)

    return MethodInfo(tableau.order, build, torchdiffeq=torchdiffeq)


def adams_bashforth(order: int, starter: str) -> MethodInfo:
    """Describe the Adams-Bashforth method of this order."""
    return MethodInfo(order, lambda grid, _: AdamsBashforth(order=order, starter=TABLEAUS[starter], grid=grid))


def reversible(order: int, scheme: Callable[[Grid, "SolverConfig"], Scheme]) -> MethodInfo:
    """Describe the reversible method with this scheme."""

    def build(grid: Grid, solver: "SolverConfig") -> Method:
        updates = scheme(grid, solver)
        if solver.state_dtype in FORMATS:
            return FixedPointReversibleMethod(scheme=updates, grid=grid, form=FORMATS[solver.state_dtype])
        return ReversibleMethod(scheme=updates, grid=grid)

    return MethodInfo(order, build, reversible=True)


def implicit_euler(grid: Grid, solver: "SolverConfig") -> Method:
    """Build backward Euler, by its series or by iterations."""
    if solver.degree is not None:
        return ImplicitEulerSeries(degree=solver.degree, grid=grid)
    assert solver.rtol is not None and solver.atol is not None
    return ImplicitEuler(rtol=solver.rtol, atol=solver.atol, max_nfe=solver.max_nfe, grid=grid)


METHODS: dict[str, MethodInfo] = {
    "euler": runge_kutta("euler", "euler"),
    "midpoint": runge_kutta("midpoint", "midpoint"),
    "heun": runge_kutta("heun", "heun2"),
    "ralston": runge_kutta("ralston"),
    "rk3": runge_kutta("rk3"),
    "rk4": runge_kutta("rk4", "rk4"),
    "rk4_classic": runge_kutta("rk4_classic"),
    "ab2": adams_bashforth(2, "heun"),
    "ab3": adams_bashforth(3, "rk3"),
    "lm": MethodInfo(1, lambda grid, _: LinearTwoStep(grid=grid)),
    "implicit_euler": MethodInfo(1, implicit_euler),
    "leapfrog": reversible(2, lambda grid, _: leapfrog(grid)),
    "alf": reversible(2, lambda grid, solver: alf(grid, solver.damping)),
    "reversible_heun": reversible(2, lambda grid, _: reversible_heun(grid)),
    **{name: MethodInfo(tableau.order, None, torchdiffeq=name) for name, tableau in ADAPTIVE_TABLEAUS.items()},
}
"""Method name -> description. Names that torchdiffeq also has mean the same method (its ``heun2`` is our ``heun``)."""

FIXED = tuple(name for name, method in METHODS.items() if method.build)
ADAPTIVE = tuple(name for name, method in METHODS.items() if not method.build)

OPTIONS: dict[str, tuple[str, ...]] = {
    "steps": FIXED,
    "grid": FIXED,
    "rtol": (*ADAPTIVE, "implicit_euler"),
    "atol": (*ADAPTIVE, "implicit_euler"),
    "nodes": ADAPTIVE,
    "degree": ("implicit_euler",),
    "damping": ("alf",),
    "projected": tuple(TABLEAUS),
}
"""Option of a solver -> the methods that have it; all methods have the others."""
