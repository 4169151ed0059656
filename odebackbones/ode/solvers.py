"""The available solvers, their configuration, and how they are built."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

from odebackbones.checks import is_whole
from odebackbones.errors import InputError, name_prefix, unknown_name
from odebackbones.ode.grids import Grid, distinct_times, uneven_grid, uniform_grid
from odebackbones.ode.methods.adaptive import AdaptiveMethod
from odebackbones.ode.methods.base import Method
from odebackbones.ode.methods.fixed_point import FORMATS
from odebackbones.ode.methods.registry import METHODS, OPTIONS
from odebackbones.ode.schedule import capacity

GRADIENTS = ("checkpoint", "backprop", "reversible", "adjoint")
"""How the backward pass gets the states: recompute them, keep everything, reconstruct them, or solve another ODE."""


@dataclass(frozen=True)
class SolverConfig:
    """Configuration of a solver: its method, its steps, and how its gradient is computed.

    Args:
        method: A name in :data:`METHODS`.
        steps: Number of equal steps over the time span, for methods with fixed steps; by default 4, or as many as
            ``grid`` has.
        gradient: ``"checkpoint"`` keeps some states and evaluates the field again in the backward pass;
            ``"backprop"`` keeps all activations; ``"reversible"`` keeps only the end and reconstructs the states
            to the last bit (methods leapfrog, alf, reversible_heun); ``"adjoint"`` solves the continuous adjoint
            equation with torchdiffeq, which does not give the gradient of the solve.
        grid: Ends of uneven steps as fractions of the time span, ascending to 1, in place of ``steps``.
        checkpoints: States that ``"checkpoint"`` keeps: ``"every"`` for each step, ``"sqrt"`` for 2 + sqrt(N) of N
            steps, or a number; fewer states cost more evaluations.
        rtol: Relative tolerance of adaptive methods and of fixed-point iterations, by default 1e-3.
        atol: Absolute tolerance of both, by default 1e-4.
        nodes: For adaptive methods: number of equal parts of the time span, by default 4; norms with statistics per
            time keep them at the ends of these parts.
        max_nfe: Limit on the evaluations of a forward solve, from one time to the next, not counting an adaptive
            method's repetition of the accepted steps; None for no limit.
        degree: Degree of the truncated series of ``implicit_euler``; None iterates to ``rtol`` and ``atol``.
        damping: Eta of ``alf``, in (0, 1]; only 1 is reversible and has order 2.
        projected: For Runge-Kutta methods with fixed steps: keep the state non-negative, like ResNets whose ReLU
            follows the addition; the order is 1 where that makes a difference.
        state_dtype: Arithmetic of the reversible methods' state: ``"float"`` for its own dtype, ``"int32"`` and
            ``"float64"`` for fixed point (:data:`~odebackbones.ode.methods.fixed_point.FORMATS`); ``"auto"`` is
            ``"float"``, except ``"int32"`` where ``"reversible"`` prepares for a backward pass.
        check_finite: Stop with an error if the final state is not finite; waits for the device once per solve.
    """

    method: str = "midpoint"
    steps: int | None = None
    gradient: str = "checkpoint"
    grid: tuple[float, ...] | None = None
    checkpoints: str | int = "every"
    rtol: float | None = None
    atol: float | None = None
    nodes: int | None = None
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
        for name in ("steps", "max_nfe", "degree", "nodes"):
            require_count(name, getattr(self, name))
        for name, most in (("rtol", math.inf), ("atol", math.inf), ("damping", 1.0)):
            require_positive(name, getattr(self, name), most=most)
        if self.grid is not None:
            require_ascending(self.grid, self.steps)
        require_taken(self)
        for name, value in defaults(self).items():
            object.__setattr__(self, name, value)
        capacity(self.checkpoints, self.steps or 1)
        require_possible(self)


DEFAULTS: dict[str, Any] = {"steps": 4, "rtol": 1e-3, "atol": 1e-4, "nodes": 4}
"""Defaults of the options that only some methods have."""


def defaults(solver: SolverConfig) -> dict[str, Any]:
    """Return the defaults of the options that the method has and that were not given."""
    own = DEFAULTS if solver.grid is None else DEFAULTS | {"steps": len(solver.grid)}
    return {name: own[name] for name in own if getattr(solver, name) is None and has_option(solver, name)}


def has_option(solver: SolverConfig, name: str) -> bool:
    """Whether the method, as it is configured, has this option."""
    if name in ("rtol", "atol") and solver.degree is not None:  # nothing is iterated
        return False
    return name not in OPTIONS or solver.method in OPTIONS[name]


def with_changes(solver: SolverConfig, **changes: Any) -> SolverConfig:
    """Return the configuration with changes; drop options that a new method lacks, and a grid that new steps replace.

    Raises:
        InputError: A change is not an option of the new method.
    """
    if ("steps" in changes) != ("grid" in changes):  # the one replaces the other
        changes = {"steps": None, "grid": None, **changes}
    given = {field.name: getattr(solver, field.name) for field in fields(solver)} | changes
    if changes.get("degree") is not None or given["method"] != solver.method:
        target = SolverConfig(given["method"], degree=changes.get("degree"))
        foreign = {f.name: f.default for f in fields(solver) if f.name in LOST and not has_option(target, f.name)}
        given = given | foreign | changes
    return SolverConfig(**given)  # pyright: ignore[reportArgumentType] (a field without default is none of these)


LOST = ("steps", "grid", "rtol", "atol", "nodes", "degree", "damping")
"""Options that may be dropped when the method changes; others, such as ``projected``, define the function."""


def require_count(name: str, value: int | None) -> None:
    """Refuse a value that is neither None nor a whole number of at least 1."""
    if value is not None and not is_whole(value):
        raise InputError(f"{name}={value!r}: expected a whole number of at least 1")


def require_positive(name: str, value: float | None, *, most: float) -> None:
    """Refuse a value that is neither None nor a number above 0 and at most ``most``."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= most:
        limit = "" if most == math.inf else f", and {most:g} at most"
        raise InputError(f"{name}={value!r}: expected a number above 0{limit}")


def require_budgets(budgets: Sequence[int]) -> None:
    """Refuse a value that is not a sequence of numbers of steps."""
    if not isinstance(budgets, Sequence):
        raise InputError(f"budgets={budgets!r}: expected numbers of steps, such as (1, 2, 4)")
    for steps in budgets:
        if steps is None:
            raise InputError(f"budgets={budgets!r}: expected numbers of steps, such as (1, 2, 4)")
        require_count("budgets", steps)


def require_ascending(grid: tuple[float, ...], steps: int | None) -> None:
    """Refuse fractions that do not ascend from above 0 to 1, or whose number is not ``steps``."""
    ends = (0.0, *grid) if isinstance(grid, Sequence) else ()
    if len(ends) < 2 or ends[-1] != 1.0 or any(a >= b for a, b in zip(ends, ends[1:])):  # noqa: B905, RUF007
        raise InputError(f"grid={grid}: expected the ends of the steps as fractions that ascend from above 0 to 1")
    if steps not in (None, len(grid)):
        raise InputError(f"grid={grid} has {len(grid)} steps, and steps={steps}: leave steps out, or make them agree")


def require_taken(solver: SolverConfig) -> None:
    """Refuse options that the method ignores, and name the methods that have them."""
    for field in fields(solver):
        value = getattr(solver, field.name)
        if value != field.default and not has_option(solver, field.name):
            series = " with degree=..." if solver.degree is not None and field.name in ("rtol", "atol") else ""
            finds = " (it finds its own steps: rtol and atol say how)" if field.name in ("steps", "grid") else ""
            raise InputError(
                f"{field.name}={value!r}: solver {solver.method!r}{series} has no such option{finds}, but "
                f"{', '.join(OPTIONS[field.name])} have; leave it out, or take one of them"
            )


def require_possible(solver: SolverConfig) -> None:
    """Refuse combinations of method, gradient and arithmetic that do not exist, and name the existing ones."""
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
    if solver.projected and solver.gradient == "adjoint":
        raise InputError("projected=True works with every gradient mode but 'adjoint'")
    if solver.state_dtype not in ("auto", "float", *FORMATS):
        raise unknown_name("state_dtype", solver.state_dtype, ("auto", "float", *FORMATS))
    fixed = solver.state_dtype in FORMATS
    if fixed and (not method.reversible or solver.damping != 1.0):
        raise InputError(f"state_dtype={solver.state_dtype!r} is for leapfrog, alf (damping=1) and reversible_heun")
    if solver.gradient == "reversible" and solver.state_dtype == "float":
        raise InputError("gradient='reversible' needs exact sums: state_dtype='auto', 'int32' or 'float64'")


def build_method(
    solver: SolverConfig, t_span: tuple[float, float] = (0.0, 1.0), *, name: str = ""
) -> Method | AdaptiveMethod:
    """Build the method of ``solver`` on its grid over ``t_span``; ``name`` is the name of the solve in errors.

    Raises:
        InputError: The time span is empty or infinite, or the solve would take more than ``max_nfe`` evaluations.
    """
    if t_span[0] == t_span[1]:
        raise InputError(f"t_span={t_span}: start and end are equal; give an interval of some length")
    require_finite_times(t_span)
    build = METHODS[solver.method].build
    if build is None:
        return AdaptiveMethod(solver.method, t_span)
    method = build(solver_grid(solver, t_span), solver)
    nfe = sum(method.evaluations())
    if solver.max_nfe is not None and nfe > solver.max_nfe:
        raise InputError(
            f"{name_prefix(name)}max_nfe={solver.max_nfe}: {solver.method} with {len(method.grid)} steps evaluates the "
            f"field {nfe} times; take fewer steps, or raise max_nfe"
        )
    return method


def fixed_method(solver: SolverConfig, t_span: tuple[float, float]) -> Method:
    """Build the method of a solver with fixed steps."""
    build = METHODS[solver.method].build
    assert build is not None
    return build(solver_grid(solver, t_span), solver)


def require_finite_times(times: Sequence[float]) -> None:
    """Refuse times that are infinite or NaN."""
    if not all(map(math.isfinite, times)):
        raise InputError(f"t_span={tuple(times)}: expected finite times; a steady state needs a long, finite span")


def has_fixed_cost(solver: SolverConfig) -> bool:
    """Whether the evaluations are known before the solve: not if steps or iterations follow a tolerance."""
    return not is_adaptive(solver) and (solver.method != "implicit_euler" or solver.degree is not None)


def is_adaptive(solver: SolverConfig) -> bool:
    """Whether every solve finds its own steps."""
    return METHODS[solver.method].build is None


def solver_grid(solver: SolverConfig, t_span: tuple[float, float]) -> Grid:
    """The steps of a fixed-step method; for an adaptive one, the parts at whose ends statistics are kept."""
    if solver.grid is not None:
        return uneven_grid(t_span, solver.grid)
    parts = solver.steps or solver.nodes
    assert parts is not None
    return uniform_grid(t_span, parts)


def min_nfe(solver: SolverConfig) -> int:
    """Return the fewest evaluations that a forward solve takes; for an adaptive method, its ``nodes``."""
    if solver.nodes is not None:
        return solver.nodes
    return sum(fixed_method(replace(solver, max_nfe=None), (0.0, 1.0)).evaluations())


def evaluation_times(
    solver: SolverConfig, t_span: tuple[float, float] = (0.0, 1.0), *, budgets: Sequence[int] = ()
) -> list[float]:
    """Return the distinct times, in ascending order, at which solves over ``t_span`` evaluate their vector field.

    Args:
        solver: Method and steps; for an adaptive method, the ends of its ``nodes`` parts stand in for the times.
        t_span: Start and end.
        budgets: Further numbers of steps whose times are included.
    """
    require_budgets(budgets)
    times = []
    for config in (solver, *(with_steps(solver, steps) for steps in budgets)):
        if is_adaptive(solver):
            times += [*(t for t, _ in solver_grid(config, t_span)), t_span[1]]
        else:
            times += chain(*fixed_method(config, t_span).times)
    return distinct_times(times, length=t_span[1] - t_span[0])


def with_steps(solver: SolverConfig, number: int) -> SolverConfig:
    """Return the same solver with ``number`` equal steps, or ``number`` nodes for an adaptive method."""
    return replace(solver, nodes=number) if solver.nodes is not None else replace(solver, steps=number, grid=None)
