"""All methods with fixed steps, some in more than one way, as data for parametrized tests."""

from odebackbones.ode import METHODS, SolverConfig
from odebackbones.ode.methods.registry import OPTIONS
from odebackbones.ode.methods.tableaus import TABLEAUS
from odebackbones.ode.solvers import has_fixed_cost

VARIANTS = {name: {"method": name} for name, method in METHODS.items() if method.build} | {
    "implicit_euler": {"method": "implicit_euler", "rtol": 1e-4, "atol": 1e-4},
    "implicit_euler of degree 2": {"method": "implicit_euler", "degree": 2},
    "damped alf": {"method": "alf", "damping": 0.8},
}
"""Name -> what its solver's configuration says."""

FIXED_POINT = {
    f"{method} in {state_dtype}": {"method": method, "state_dtype": state_dtype}
    for method in ("leapfrog", "alf", "reversible_heun")
    for state_dtype in ("int32", "float64")
}
"""The reversible methods on fixed-point states, whose rounding hides the order of convergence."""

ONE_STEP = {name: tableau.stages for name, tableau in TABLEAUS.items()} | {
    "lm": 1,
    "implicit_euler of degree 2": 2,
}
"""Variant -> evaluations of the field in every step."""


def solver_config(variant, steps=4, gradient="checkpoint", **kwargs):
    """The configuration of a variant."""
    return SolverConfig(steps=steps, gradient=gradient, **(VARIANTS | FIXED_POINT)[variant], **kwargs)


def fitting(method, **options):
    """The configuration of a method with those of the options that it has."""
    return SolverConfig(method, **{name: v for name, v in options.items() if method in OPTIONS.get(name, [method])})


def planned(variants):
    """Those whose evaluations are known beforehand."""
    return [variant for variant in variants if has_fixed_cost(solver_config(variant))]
