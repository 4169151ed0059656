"""Tests of whether a model is an ODE: its metric under solvers not used in training, and the order of convergence.

A network whose accuracy depends on the solver that trained it is a ResNet with shared weights, not a flow.

K. Ott, P. Katiyar, P. Hennig, M. Tiemann: ResNet After All? Neural ODEs and Their Numerical Solution, ICLR 2021,
arXiv:2007.15386
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from odebackbones.block import ODEBlock, solver_stats
from odebackbones.convert.solver import calibrate, change_solver, evaluating
from odebackbones.errors import InputError, SolverError
from odebackbones.ode import METHODS

TRIED_METHODS = ("euler", "midpoint", "heun", "rk4")


TRIED_STEPS = (1, 2, 4, 8, 16)


TRAINED, CALIBRATED = "trained", "calibrated"
"""Names, in place of a method, for the model under its own solver."""


PLAIN = {"gradient": "checkpoint", "state_dtype": "auto", "max_nfe": None}
"""Solver settings that every method accepts, whatever the previous solver was."""


@dataclass(frozen=True)
class Transfer:
    """The result of a model under one solver.

    Attributes:
        method: The method; ``"trained"`` is the unchanged model, and ``"calibrated"`` the same model with statistics
            estimated again, as they are under the other solvers.
        steps: Steps of every block, or one number for each; None for the model under its own solver and for solvers
            that find their steps.
        nfe: Evaluations of all blocks; for a solver that finds its steps, on the last batch.
        metric: Value of the metric; NaN if a solve could not be finished.
        tolerance: Tolerance of a solver that finds its steps.
        further: Name of a further figure -> its value.
    """

    method: str
    steps: int | tuple[int, ...] | None
    nfe: int
    metric: float
    tolerance: float | None = None
    further: Mapping[str, float] = field(default_factory=dict)


def solver_transfer(
    model: nn.Module,
    data: Iterable[Any],
    *,
    metric: Callable[[nn.Module, Iterable[Any]], float | Mapping[str, float]] | None = None,
    methods: Sequence[str] = TRIED_METHODS,
    steps: Sequence[int | tuple[int, ...]] = TRIED_STEPS,
    tolerances: Sequence[float] = (),
    calibrate_on: Iterable[Any] | None = None,
    further: Mapping[str, Callable[[nn.Module], float]] | None = None,
) -> list[Transfer]:
    """Measure the metric of ``model`` as it is, and under every method with each number of steps or tolerance.

    Args:
        model: A trained model with ODE blocks; it is not changed.
        data: Batches that can be iterated repeatedly (a list, a DataLoader): for the default metric,
            ``(images, labels)``.
        metric: ``(model, data) -> number``, by default top-1 accuracy; or several named numbers, the first of which is
            the metric, and the others further figures.
        methods: Methods to try.
        steps: Numbers of steps to try, for methods with fixed steps: one for all blocks, or a tuple of one for each.
        tolerances: Relative and absolute tolerances to try, for methods that find their steps.
        calibrate_on: Batches from which statistics per time are estimated again under every solver; None interpolates
            the trained statistics.
        further: Name of a further figure, such as ``"time [ms]"`` -> function of a model, which it may change.

    Raises:
        InputError: The model has no ODE blocks, or they do not support one of the solvers.
    """
    as_it_is = {TRAINED: {}} if calibrate_on is None else {TRAINED: {}, CALIBRATED: {}}
    others = solver_variants(methods, steps=steps, tolerances=tolerances)
    variants = [*as_it_is.items(), *((variant["method"], variant) for variant in others)]
    for _, variant in variants:  # unsupported solvers fail before the work starts
        change_solver(model, **variant)
    rows = []
    for method, variant in variants:
        changed = change_solver(model, **variant)
        try:
            if method != TRAINED and calibrate_on is not None:
                calibrate(changed, calibrate_on)
            found = (metric or accuracy)(changed, data)  # before nfe, which an adaptive solver only knows after a solve
        except SolverError:
            found = math.nan
        nfe = total_nfe(changed)
        value, *others = found.items() if isinstance(found, Mapping) else [("", found)]
        figures = dict(others)
        if not math.isnan(value[1]):
            figures |= {name: find(changed) for name, find in (further or {}).items()}
        rows.append(Transfer(method, variant.get("steps"), nfe, value[1], variant.get("rtol"), figures))
    return rows


def solver_variants(
    methods: Sequence[str], *, steps: Sequence[int | tuple[int, ...]], tolerances: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """Yield arguments of :func:`~odebackbones.change_solver` for every method and each number of steps or tolerance."""
    for method in methods:
        if METHODS[method].build is None:
            yield from (solver_arguments(method, tolerance=each) for each in tolerances)
        else:
            yield from (solver_arguments(method, steps=each) for each in steps)


def solver_arguments(
    method: str, *, steps: int | Sequence[int] | None = None, tolerance: float | None = None
) -> dict[str, Any]:
    """Return the arguments of :func:`~odebackbones.change_solver` for a method with these steps, or this tolerance."""
    if METHODS[method].build is None:
        return {"method": method, "rtol": tolerance, "atol": tolerance, "grid": None, "projected": False, **PLAIN}
    return {"method": method, "steps": steps, **PLAIN}


@torch.no_grad()
def accuracy(model: nn.Module, data: Iterable[Any]) -> float:
    """Compute the top-1 accuracy on batches ``(images, labels)``, in evaluation mode.

    Raises:
        InputError: There are no batches.
    """
    correct, total = 0, 0
    with evaluating(model):
        for images, labels in data:
            correct += int((model(images).argmax(dim=1) == labels).sum())
            total += len(labels)
    if not total:
        raise InputError("solver_transfer: there are no batches (images, labels) to measure the accuracy on")
    return correct / total


def total_nfe(model: nn.Module) -> int:
    """Return the total number of evaluations of all blocks."""
    return sum(stats.nfe for stats in solver_stats(model).values())


@dataclass(frozen=True)
class Convergence:
    """Errors of a block's flow for several numbers of steps, compared with a fine solve by rk4.

    Attributes:
        steps: Numbers of steps.
        errors: Relative errors (Euclidean norm) of the end states.
        order: Slope of log error over log step length: the method's order where the field is smooth and the
            steps are short enough to see it.
    """

    steps: tuple[int, ...]
    errors: tuple[float, ...]
    order: float


@torch.no_grad()
def convergence_order(
    block: ODEBlock, state: Tensor, *, method: str | None = None, steps: Sequence[int] = (8, 16, 32, 64)
) -> Convergence:
    """Measure the order at which a block's solves converge, in evaluation mode.

    Args:
        block: The block; it is not changed.
        state: Input of the block ``(B, C, H, W)``; rounding matters least in float64, with a float64 block.
        method: Method of the solves; None takes the block's.
        steps: Numbers of steps, ascending.
    """
    reference = end_state(block, "rk4", 4 * steps[-1], state)
    errors = [
        float((end_state(block, method or block.solver.method, n, state) - reference).norm() / reference.norm())
        for n in steps
    ]
    slope = np.polyfit(np.log(steps), np.log(np.maximum(errors, 1e-300)), 1)[0]
    return Convergence(tuple(steps), tuple(errors), float(-slope))


def end_state(block: ODEBlock, method: str, steps: int, state: Tensor) -> Tensor:
    """Return the end state of a solve by that method, with the block's statistics interpolated to its times."""
    return change_solver(block, method, steps=steps, **PLAIN).eval()(state)
