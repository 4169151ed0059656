"""Order of convergence on problems with closed-form solutions, and parity with torchdiffeq."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product

import torch
import torchdiffeq
from torch import Tensor

from benchmarks.measurement import Claim, Part
from engine.report.records import Table
from odebackbones.ode import METHODS, SolverConfig, odeint
from odebackbones.ode.solvers import fixed_method

ROTATION = torch.tensor([[-0.3, -2.0], [2.0, -0.3]], dtype=torch.float64)
STEPS = (128, 256)
PARITY_STEPS = 8
TOLERANCE = 1e-4

Problem = tuple[Callable[[float, Tensor], Tensor], Tensor, Tensor]
"""Field, initial state at t = 0, and the exact state at t = 1."""


def problems() -> dict[str, Problem]:
    """Return initial value problems with closed-form solutions, in float64."""
    plane = torch.tensor([[1.0, 0.0], [0.3, -0.7]], dtype=torch.float64)
    line = torch.tensor([[0.1, 0.3, 1.7]], dtype=torch.float64)
    return {
        "damped rotation": (
            lambda _, x: x @ ROTATION.to(x.dtype).T,
            plane,
            plane @ torch.linalg.matrix_exp(ROTATION).T,
        ),
        "growth at a rate cos t": (lambda t, x: math.cos(t) * x, line, line * math.exp(math.sin(1.0))),
        "logistic growth": (lambda _, x: x * (1.0 - x), line, line / (line + (1.0 - line) * math.exp(-1.0))),
    }


def variants() -> dict[str, tuple[SolverConfig, int]]:
    """Return every method with fixed steps, with its theoretical order."""
    found = {}
    for name, method in METHODS.items():
        if method.build is not None and name != "implicit_euler":
            found[name] = SolverConfig(name, gradient="backprop"), method.order
    implicit = SolverConfig("implicit_euler", gradient="backprop", rtol=1e-13, atol=1e-13)
    damped = SolverConfig("alf", gradient="backprop", damping=0.9)
    extra = {
        "implicit_euler, iterated": (implicit, 1),
        "implicit_euler, series of degree 2": (SolverConfig("implicit_euler", gradient="backprop", degree=2), 1),
        "alf, damping 0.9": (damped, 1),
    }
    return found | extra


def end_state(problem: Problem, solver: SolverConfig, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the solver's state at t = 1."""
    field, start, _ = problem
    return fixed_method(solver, (0.0, 1.0)).solve(field, start.to(dtype)).detach()


def measured_order(problem: Problem, solver: SolverConfig) -> float:
    """Return log2 of the ratio of the errors at N and 2 N steps."""
    errors = [(end_state(problem, replace(solver, steps=n)) - problem[2]).norm() for n in STEPS]
    return math.log2(errors[0] / errors[1])


def parity(problem: Problem, name: str, dtype: torch.dtype, *, gradients: bool) -> float:
    """Return the largest relative difference from torchdiffeq's method with the same steps or tolerances.

    With gradients, an adaptive method's accepted steps are repeated with our own tableau.
    """
    field, start, _ = problem
    if METHODS[name].build:
        solver, options = SolverConfig(name, PARITY_STEPS, "backprop"), {"step_size": 1.0 / PARITY_STEPS}
    else:
        solver = SolverConfig(name, gradient="backprop", rtol=TOLERANCE, atol=TOLERANCE)
        options = {"step_t": torch.tensor([1.0])}
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    theirs = torchdiffeq.odeint(
        lambda t, x: field(float(t), x),
        start.to(dtype),
        times,
        method=METHODS[name].torchdiffeq,
        options=options,
        rtol=TOLERANCE,
        atol=TOLERANCE,
    )[-1]
    assert isinstance(theirs, Tensor)
    ours = odeint(field, start.to(dtype, copy=True).requires_grad_(gradients), solver=solver).state
    return float(((ours.detach() - theirs).abs() / theirs.abs().clamp_min(1e-3)).max())


def run(rounds: int) -> Part:
    """Measure orders and parities; nothing is timed."""
    known = problems()
    rows = tuple(
        (name, order, *(measured_order(problem, solver) for problem in known.values()))
        for name, (solver, order) in variants().items()
    )
    worst = max(abs(found - order) for _, order, *orders in rows for found in orders)
    shared = [name for name, method in METHODS.items() if method.torchdiffeq]
    kinds = list(product((torch.float64, torch.float32), (False, True)))
    parities = {name: [worst_parity(known.values(), name, *kind) for kind in kinds] for name in shared}
    parity_rows = tuple((name, METHODS[name].torchdiffeq, *found) for name, found in parities.items())
    return Part(
        (
            Table(f"Order of convergence, {STEPS[0]} to {STEPS[1]} steps", ("method", "theory", *known), rows),
            Table(
                "Parity with torchdiffeq (largest relative difference; with gradients, accepted steps are taken again, "
                "without its interpolation to the end)",
                ("method", "its", "float64", "float64, with gradients", "float32", "float32, with gradients"),
                parity_rows,
            ),
        ),
        (
            Claim("order of convergence, largest deviation from the theory", worst, 0.1),
            Claim("parity with torchdiffeq, float64", max(max(found[:2]) for found in parities.values()), 1e-12),
            Claim(
                "parity with torchdiffeq, float32, without gradients",
                max(found[2] for found in parities.values()),
                1e-6,
            ),
        ),
    )


def worst_parity(known: Iterable[Problem], name: str, dtype: torch.dtype, gradients: bool) -> float:
    """Return the worst parity over the problems."""
    return max(parity(problem, name, dtype, gradients=gradients) for problem in known)
