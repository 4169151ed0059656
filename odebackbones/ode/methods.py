"""Which methods there are, as data: how each is built, and what it can."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from odebackbones.ode.fixed_point import FORMATS, FixedPointShears
from odebackbones.ode.grids import Grid
from odebackbones.ode.integrators import (
    AdamsBashforth,
    ImplicitEuler,
    ImplicitEulerSeries,
    Integrator,
    LinearTwoStep,
    RungeKutta,
    VectorField,
)
from odebackbones.ode.shears import Scheme, Shears, alf, leapfrog, reversible_heun
from odebackbones.ode.tableaus import ADAPTIVE_TABLEAUS, TABLEAUS

if TYPE_CHECKING:
    from odebackbones.ode.solvers import SolverConfig


class Method(NamedTuple):
    """What there is to know about a method."""

    order: int
    """Of convergence, on even grids."""
    build: Callable[[VectorField, Grid, "SolverConfig"], Integrator] | None
    """Makes its integrator; None for adaptive methods, whose grid the solve finds."""
    reversible: bool = False
    """Whether it can be run backward exactly."""
    torchdiffeq: str = ""
    """torchdiffeq's name of it, which the adjoint needs."""


def runge_kutta(name: str, torchdiffeq: str = "") -> Method:
    """The explicit Runge-Kutta method of that tableau."""
    tableau = TABLEAUS[name]

    def build(vector_field: VectorField, grid: Grid, solver: "SolverConfig") -> Integrator:
        return RungeKutta(vector_field, tableau=tableau, grid=grid, projected=solver.projected)

    return Method(tableau.order, build, torchdiffeq=torchdiffeq)


def adams_bashforth(order: int, starter: str) -> Method:
    """The Adams-Bashforth method of that order."""
    return Method(order, lambda f, grid, _: AdamsBashforth(f, order=order, starter=TABLEAUS[starter], grid=grid))


def reversible(order: int, scheme: Callable[[Grid, "SolverConfig"], Scheme]) -> Method:
    """The method of these shears."""

    def build(vector_field: VectorField, grid: Grid, solver: "SolverConfig") -> Integrator:
        shears = scheme(grid, solver)
        if solver.state_dtype in FORMATS:
            return FixedPointShears(vector_field, scheme=shears, grid=grid, form=FORMATS[solver.state_dtype])
        return Shears(vector_field, scheme=shears, grid=grid)

    return Method(order, build, reversible=True)


def implicit_euler(vector_field: VectorField, grid: Grid, solver: "SolverConfig") -> Integrator:
    """Backward Euler, by its series or by iterations."""
    if solver.degree is not None:
        return ImplicitEulerSeries(vector_field, degree=solver.degree, grid=grid)
    assert solver.rtol is not None and solver.atol is not None
    return ImplicitEuler(vector_field, rtol=solver.rtol, atol=solver.atol, max_nfe=solver.max_nfe, grid=grid)


METHODS: dict[str, Method] = {
    "euler": runge_kutta("euler", "euler"),
    "midpoint": runge_kutta("midpoint", "midpoint"),
    "heun": runge_kutta("heun", "heun2"),
    "ralston": runge_kutta("ralston"),
    "rk3": runge_kutta("rk3"),
    "rk4": runge_kutta("rk4", "rk4"),
    "rk4_classic": runge_kutta("rk4_classic"),
    "ab2": adams_bashforth(2, "heun"),
    "ab3": adams_bashforth(3, "rk3"),
    "lm": Method(1, lambda f, grid, _: LinearTwoStep(f, grid=grid)),
    "implicit_euler": Method(1, implicit_euler),
    "leapfrog": reversible(2, lambda grid, _: leapfrog(grid)),
    "alf": reversible(2, lambda grid, solver: alf(grid, solver.damping)),
    "reversible_heun": reversible(2, lambda grid, _: reversible_heun(grid)),
    **{name: Method(tableau.order, None, torchdiffeq=name) for name, tableau in ADAPTIVE_TABLEAUS.items()},
}
"""Method name -> what it is. Names that torchdiffeq has, too, mean the same method (its ``heun2`` is our ``heun``)."""

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
