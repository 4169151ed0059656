"""Change of solver for the same weights, and estimation of the statistics that belong to its times."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import nn

from odebackbones.block import ode_blocks
from odebackbones.checks import one_for_each
from odebackbones.errors import InputError, unknown_name
from odebackbones.fields.batch_norm import TimeBatchNorm2d
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import with_changes

Model = TypeVar("Model", bound=nn.Module)


def change_solver(
    model: Model, method: str | None = None, *, steps: int | Sequence[int] | None = None, **changes: Any
) -> Model:
    """Return a copy of ``model`` whose ODE blocks integrate the same fields by another solver.

    Options that the new method lacks, such as tolerances, are dropped. Running statistics per time are interpolated
    linearly to the new evaluation times; :func:`calibrate` estimates them again.

    Args:
        model: Any module with ODE blocks.
        method: The new method; None keeps each block's.
        steps: The new number of steps, of equal length if no ``grid`` is given, too, or one number for each block; None
            keeps each block's.
        **changes: Other fields of :class:`~odebackbones.ode.SolverConfig`.

    Raises:
        InputError: The model has no ODE block, or more or fewer than there are steps; or there is no such solver.
    """
    known = [field.name for field in fields(SolverConfig)]
    for name in changes:
        if name not in known:
            raise unknown_name("field of SolverConfig", name, known)
    if method is not None:
        changes["method"] = method
    copied = copy.deepcopy(model)
    blocks = ode_blocks(copied)
    numbers = [None] * len(blocks) if steps is None else one_for_each("steps", steps, len(blocks))
    for block, number in zip(blocks, numbers, strict=True):
        own = {} if number is None else {"steps": number}
        block.set_solver(with_changes(block.solver, **own, **changes))
    return copied


@torch.no_grad()
def calibrate(
    model: nn.Module, batches: Iterable[Any], *, forward: Callable[[nn.Module, Any], Any] | None = None
) -> None:
    """Estimate the running statistics per time again, as the plain mean over ``batches``; all else stays.

    Args:
        model: The model, changed in place; its modes (training or evaluation) are restored afterwards.
        batches: Inputs like those of training; a few dozen images per evaluation time are enough.
        forward: Function that runs the model on a batch; by default ``model(batch)``, or for a tuple its first element.

    Raises:
        InputError: There are no batches.
    """
    run = forward or (lambda model, batch: model(batch[0] if isinstance(batch, list | tuple) else batch))
    norms = [module for module in model.modules() if isinstance(module, TimeBatchNorm2d)]
    seen = 0
    with evaluating(model), estimating(norms):
        for seen, batch in enumerate(batches, start=1):
            for norm in norms:
                norm.calibration = 1.0 / seen
            run(model, batch)
    if not seen:
        raise InputError("calibrate: there are no batches to estimate the statistics from")


@contextmanager
def estimating(norms: list[TimeBatchNorm2d]) -> Iterator[None]:
    """End the estimation of statistics per time when the context ends."""
    try:
        yield
    finally:
        for norm in norms:
            norm.calibration = None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put all modules in evaluation mode, and restore each module's mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
