"""Is it an ODE? The metric under solvers that the weights were not trained with, and the order of convergence.

A network whose accuracy hangs on the solver that trained it is a ResNet with shared weights, not a flow.

K. Ott, P. Katiyar, P. Hennig, M. Tiemann: ResNet After All? Neural ODEs and Their Numerical Solution, ICLR 2021,
arXiv:2007.15386
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from odebackbones.engine.report import Curve, Table
from odebackbones.errors import InputError
from odebackbones.solver_change import calibrate, change_solver, evaluating
from odebackbones.stages import ODEBlock, solver_stats

TRIED_METHODS = ("euler", "midpoint", "heun", "rk4")
TRIED_STEPS = (1, 2, 4, 8, 16)

PLAIN = {"gradient": "checkpoint", "state_dtype": "auto", "max_nfe": None}
"""What any method can take, whatever the solver was before."""


@dataclass(frozen=True)
class Transfer:
    """A model under one solver.

    Attributes:
        method: The method; ``"trained"`` is the model as it came.
        steps: Steps of every block; of the model as it came, None.
        nfe: Evaluations of all blocks.
        metric: What was measured.
    """

    method: str
    steps: int | None
    nfe: int
    metric: float


def solver_transfer(
    model: nn.Module,
    data: Iterable[Any],
    *,
    metric: Callable[[nn.Module, Iterable[Any]], float] | None = None,
    methods: Sequence[str] = TRIED_METHODS,
    steps: Sequence[int] = TRIED_STEPS,
    calibrate_on: Iterable[Any] | None = None,
) -> list[Transfer]:
    """The metric of ``model`` as it is, and under every method and number of steps.

    Args:
        model: A trained model with ODE blocks; it is not changed.
        data: Batches that can be read again and again (a list, a DataLoader): for the default metric,
            ``(images, labels)``.
        metric: ``(model, data) -> number``; by default top-1 accuracy.
        methods: Methods to try, with fixed steps.
        steps: Steps of every block to try.
        calibrate_on: Batches from which statistics per time are estimated anew under every solver; None interpolates
            the trained ones.
    """
    measure = metric or accuracy
    found = measure(model, data)  # before the evaluations are asked for, which an adaptive solver then knows
    rows = [Transfer("trained", None, total_nfe(model), found)]
    for method in methods:
        for number in steps:
            changed = change_solver(model, method, steps=number, **PLAIN)
            if calibrate_on is not None:
                calibrate(changed, calibrate_on)
            found = measure(changed, data)
            rows.append(Transfer(method, number, total_nfe(changed), found))
    return rows


@torch.no_grad()
def accuracy(model: nn.Module, data: Iterable[Any]) -> float:
    """Top-1 accuracy on batches ``(images, labels)``, in evaluation mode.

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
    """Evaluations of all blocks."""
    return sum(stats.nfe for stats in solver_stats(model).values())


def transfer_table(rows: Sequence[Transfer], *, name: str = "accuracy") -> Table:
    """The rows as a table for a report, with the change against the model as it came."""
    trained = rows[0].metric
    cells = tuple((r.method, r.steps, r.nfe, r.metric, r.metric - trained) for r in rows)
    return Table(f"Solver transfer: {name}", ("solver", "steps", "NFE", name, "against trained"), cells)


def transfer_curves(rows: Sequence[Transfer], *, name: str = "accuracy") -> tuple[Curve, ...]:
    """The metric over the evaluations, one curve a method, for a report's plot."""
    curves = []
    for method in dict.fromkeys(r.method for r in rows[1:]):
        points = [(float(r.nfe), r.metric) for r in rows[1:] if r.method == method]
        x, y = zip(*points, strict=True)
        curves.append(Curve(f"Solver transfer: {name} over NFE", "NFE", name, x, y, method))
    return tuple(curves)


@dataclass(frozen=True)
class Convergence:
    """Errors of a block's flow over its steps, against a fine solve by rk4.

    Attributes:
        steps: Numbers of steps.
        errors: Relative errors (Euclidean norm) of the end states.
        order: The slope of log error over log step length: the method's order where the field is smooth and the
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
        state: Its input ``(B, C, H, W)``; in float64 with a float64 block, rounding disturbs least.
        method: Of the solves; None takes the block's.
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
    """The flow of ``state`` by that method, with the block's statistics interpolated to its times."""
    return change_solver(block, method, steps=steps, **PLAIN).eval()(state)
