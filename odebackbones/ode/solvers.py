"""Which solvers there are, how one is configured, and its building."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from torch import Tensor

from odebackbones.errors import InputError, addressed, unknown_name
from odebackbones.ode.adaptive import AdaptiveIntegrator
from odebackbones.ode.fixed_point import FORMATS, FixedPointShears
from odebackbones.ode.grids import Grid, distinct_times, uneven_grid, uniform_grid
from odebackbones.ode.integrators import (
    AdamsBashforth,
    ImplicitEuler,
    ImplicitEulerSeries,
    Integrator,
    LinearTwoStep,
    RungeKutta,
    VectorField,
)
from odebackbones.ode.schedule import budget
from odebackbones.ode.shears import Scheme, Shears, alf, leapfrog, reversible_heun
from odebackbones.ode.tableaus import ADAPTIVE_TABLEAUS, TABLEAUS

GRADIENTS = ("checkpoint", "backprop", "reversible", "adjoint")
"""How the backward pass gets the states: recompute them, keep everything, reconstruct them, or solve another ODE."""


@dataclass(frozen=True)
class SolverConfig:
    """Which method integrates, over which steps, and how its gradient is computed.

    Args:
        method: A name in :data:`METHODS`.
        steps: Equal steps over the whole time span. An adaptive method has no use for them, but norms with
            statistics per time then keep them at the ends of these steps.
        gradient: ``"checkpoint"`` keeps some states and evaluates the field again in the backward pass;
            ``"backprop"`` keeps all activations; ``"reversible"`` keeps nothing and reconstructs the states to the
            last bit (methods leapfrog, alf, reversible_heun); ``"adjoint"`` solves the continuous adjoint equation by
            torchdiffeq, which is another gradient than that of the solve.
        grid: Ends of uneven steps as fractions of the time span, ascending to 1, in place of ``steps``.
        checkpoints: Of ``"checkpoint"``: ``"every"`` step's state is kept, ``"sqrt"``, for N steps, 2 + sqrt(N) states,
            or that many; fewer states cost more evaluations.
        rtol: Relative tolerance of adaptive methods and of fixed-point iterations.
        atol: Absolute tolerance of both.
        max_nfe: Evaluations that a forward solve, from one time to the next, may take, an adaptive one's repetition of
            the accepted steps not counted; None for any number.
        degree: Of ``implicit_euler``: the degree of its truncated series; None iterates to ``rtol`` and ``atol``.
        damping: Of ``alf``: eta in (0, 1]; only 1 is reversible, and of order 2.
        projected: Of Runge-Kutta methods with fixed steps: keep the state from being negative, as ResNets do whose ReLU
            follows the addition; of order 1 where that makes a difference.
        state_dtype: Arithmetic of the reversible methods' state: ``"float"`` as the state comes, ``"int32"`` and
            ``"float64"`` fixed point (:data:`~odebackbones.ode.fixed_point.FORMATS`); ``"auto"`` is ``"float"``, but
            ``"int32"`` where ``"reversible"`` has a backward pass to come.
        check_finite: Stop with an error if the final state is not finite; waits for the device once a solve.
    """

    method: str = "midpoint"
    steps: int = 4
    gradient: str = "checkpoint"
    grid: tuple[float, ...] | None = None
    checkpoints: str | int = "every"
    rtol: float = 1e-3
    atol: float = 1e-4
    max_nfe: int | None = None
    degree: int | None = None
    damping: float = 1.0
    projected: bool = False
    state_dtype: str = "auto"
    check_finite: bool = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("solver", self.method, METHODS)
        if self.gradient not in GRADIENTS:
            raise unknown_name("gradient mode", self.gradient, GRADIENTS)
        for name in ("steps", "max_nfe", "degree"):
            require_count(name, getattr(self, name), optional=name != "steps")
        for name, most in (("rtol", math.inf), ("atol", math.inf), ("damping", 1.0)):
            require_positive(name, getattr(self, name), most=most)
        if self.grid is not None:
            require_ascending(self.grid)
        budget(self.checkpoints, self.steps)
        require_possible(self)


class Method(NamedTuple):
    """What there is to know about a method."""

    order: int
    """Of convergence, on even grids."""
    build: Callable[[VectorField, Grid, SolverConfig], Integrator] | None
    """Makes its integrator; None for adaptive methods, whose grid the solve finds."""
    reversible: bool = False
    """Whether it can be run backward exactly."""
    torchdiffeq: str = ""
    """torchdiffeq's name of it, which the adjoint needs."""


def runge_kutta(name: str, torchdiffeq: str = "") -> Method:
    """The explicit Runge-Kutta method of that tableau."""
    tableau = TABLEAUS[name]

    def build(vector_field: VectorField, grid: Grid, solver: SolverConfig) -> Integrator:
        return RungeKutta(vector_field, tableau=tableau, grid=grid, projected=solver.projected)

    return Method(tableau.order, build, torchdiffeq=torchdiffeq)


def adams_bashforth(order: int, starter: str) -> Method:
    """The Adams-Bashforth method of that order."""
    return Method(order, lambda f, grid, _: AdamsBashforth(f, order=order, starter=TABLEAUS[starter], grid=grid))


def reversible(order: int, scheme: Callable[[Grid, SolverConfig], Scheme]) -> Method:
    """The method of these shears."""

    def build(vector_field: VectorField, grid: Grid, solver: SolverConfig) -> Integrator:
        shears = scheme(grid, solver)
        if solver.state_dtype in FORMATS:
            return FixedPointShears(vector_field, scheme=shears, grid=grid, form=FORMATS[solver.state_dtype])
        return Shears(vector_field, scheme=shears, grid=grid)

    return Method(order, build, reversible=True)


def implicit_euler(vector_field: VectorField, grid: Grid, solver: SolverConfig) -> Integrator:
    """Backward Euler, by its series or by iterations."""
    if solver.degree is not None:
        return ImplicitEulerSeries(vector_field, degree=solver.degree, grid=grid)
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


def require_count(name: str, value: int | None, *, optional: bool = False) -> None:
    """Refuse what is no whole number of at least 1 (nor None, if that is ``optional``)."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r}: expected a whole number of at least 1")


def require_positive(name: str, value: float, *, most: float) -> None:
    """Refuse what is no number above 0, or one above ``most``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= most:
        limit = "" if most == math.inf else f", and {most:g} at most"
        raise InputError(f"{name}={value!r}: expected a number above 0{limit}")


def require_budgets(budgets: Sequence[int]) -> None:
    """Refuse what is no sequence of numbers of steps."""
    if not isinstance(budgets, Sequence):
        raise InputError(f"budgets={budgets!r}: expected numbers of steps, such as (1, 2, 4)")
    for steps in budgets:
        require_count("budgets", steps)


def require_ascending(grid: tuple[float, ...]) -> None:
    """Refuse fractions that don't ascend from above 0 to 1."""
    ends = (0.0, *grid) if isinstance(grid, Sequence) else ()
    if len(ends) < 2 or ends[-1] != 1.0 or any(a >= b for a, b in zip(ends, ends[1:])):  # noqa: B905, RUF007
        raise InputError(f"grid={grid}: expected the ends of the steps as fractions that ascend from above 0 to 1")


def require_possible(solver: SolverConfig) -> None:
    """Refuse combinations of method, gradient and arithmetic that don't exist, and name those that do."""
    method = METHODS[solver.method]
    if solver.gradient == "reversible" and (not method.reversible or solver.damping != 1.0):
        able = ", ".join(name for name, other in METHODS.items() if other.reversible)
        raise InputError(
            f"solver {solver.method!r}{f' with damping={solver.damping:g}' if method.reversible else ''} can't be run "
            f"backward exactly: gradient='reversible' works with {able} (with damping=1), all solvers with "
            f"'checkpoint' and 'backprop'"
        )
    if solver.gradient == "adjoint" and (not method.torchdiffeq or solver.grid is not None):
        able = ", ".join(name for name, other in METHODS.items() if other.torchdiffeq)
        raise InputError(
            f"gradient='adjoint' works, on equal steps, with {able}; solver {solver.method!r}"
            f"{' on an uneven grid' if solver.grid else ''} works with 'checkpoint' and 'backprop'"
        )
    if solver.projected and (solver.method not in TABLEAUS or solver.gradient == "adjoint"):
        raise InputError(
            f"projected=True works with {', '.join(TABLEAUS)} and every gradient mode but 'adjoint'; solver "
            f"{solver.method!r} with {solver.gradient!r} came"
        )
    if method.build is None and solver.grid is not None:
        raise InputError(f"solver {solver.method!r} finds its own steps: leave grid out, or take one with fixed steps")
    if solver.state_dtype not in ("auto", "float", *FORMATS):
        raise unknown_name("state_dtype", solver.state_dtype, ("auto", "float", *FORMATS))
    fixed = solver.state_dtype in FORMATS
    if fixed and (not method.reversible or solver.damping != 1.0):
        raise InputError(f"state_dtype={solver.state_dtype!r} is for leapfrog, alf (damping=1) and reversible_heun")
    if solver.gradient == "reversible" and solver.state_dtype == "float":
        raise InputError("gradient='reversible' needs exact sums: state_dtype='auto', 'int32' or 'float64'")


def build_integrator(
    vector_field: VectorField, t_span: tuple[float, float], solver: SolverConfig, *, name: str = ""
) -> Integrator:
    """The method that ``solver`` names, on its grid over ``t_span``; ``name`` says in errors for whom.

    Raises:
        InputError: The time span is empty, or the solve would take more than ``max_nfe`` evaluations.
    """
    if t_span[0] == t_span[1]:
        raise InputError(f"t_span={t_span}: start and end are equal; give an interval of some length")
    build = METHODS[solver.method].build
    if build is None:
        return AdaptiveIntegrator(vector_field, method=solver.method, t_span=t_span)
    integrator = build(vector_field, solver_grid(solver, t_span), solver)
    nfe = sum(integrator.evaluations())
    if solver.max_nfe is not None and nfe > solver.max_nfe:
        raise InputError(
            f"{addressed(name)}max_nfe={solver.max_nfe}: {solver.method} with {len(integrator.grid)} steps "
            f"evaluates the field {nfe} times; take fewer steps, or raise max_nfe"
        )
    return integrator


def is_planned(solver: SolverConfig) -> bool:
    """Whether the evaluations are known before the solve: not if steps or iterations follow a tolerance."""
    return METHODS[solver.method].build is not None and (solver.method != "implicit_euler" or solver.degree is not None)


def solver_grid(solver: SolverConfig, t_span: tuple[float, float]) -> Grid:
    """The steps of a method with fixed steps."""
    return uniform_grid(t_span, solver.steps) if solver.grid is None else uneven_grid(t_span, solver.grid)


def planned_nfe(solver: SolverConfig) -> int:
    """The least evaluations that a forward solve takes; of an adaptive method, its ``steps``."""
    if METHODS[solver.method].build is None:
        return solver.steps
    return sum(build_integrator(zero_field, (0.0, 1.0), solver).evaluations())


def evaluation_times(
    solver: SolverConfig, t_span: tuple[float, float] = (0.0, 1.0), *, budgets: Sequence[int] = ()
) -> list[float]:
    """The distinct times, ascending, at which solves over ``t_span`` evaluate their vector field.

    Args:
        solver: Method and steps; for an adaptive method, the ends of its equal steps stand in for the times.
        t_span: Start and end.
        budgets: Further numbers of steps whose times count, too.
    """
    require_budgets(budgets)
    times = []
    for config in (solver, *(replace(solver, steps=steps) for steps in budgets)):
        if METHODS[solver.method].build is None:
            times += [*(t for t, _ in solver_grid(config, t_span)), t_span[1]]
        else:
            integrator = build_integrator(zero_field, t_span, replace(config, max_nfe=None))
            times += chain(*integrator.times)
    return distinct_times(times, length=t_span[1] - t_span[0])


def zero_field(t: float, state: Tensor) -> Tensor:
    """The field that is zero: to ask a method for its times."""
    return 0.0 * state
