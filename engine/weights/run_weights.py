"""Weights of a run as the start of another training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from engine.config import budgeted_arguments
from engine.weights.checkpoint import load_checkpoint, load_weights, weights_of
from odebackbones.block import ODEBlock, has_ode_blocks, ode_blocks
from odebackbones.errors import InputError
from odebackbones.ode.solvers import evaluation_times


def load_run_weights(model: nn.Module, path: str, *, task: str) -> None:
    """Load the weights of a run of the same model, from its moving average if it has one.

    Its ODE blocks may have been solved by another number of steps, or with other budgets: statistics per time are then
    interpolated to the model's times.

    Args:
        model: The model.
        path: The run's folder, or its best.pt or last.pt.
        task: Name of the run's task.

    Raises:
        InputError: The file is missing, or belongs to another task or model.
    """
    content = load_checkpoint(weights_of(Path(path)), task=task)
    backbone = content["config"]["model"]["backbone"]
    if has_ode_blocks(model) and not backbone.startswith("ode_") and timm.is_model(f"ode_{backbone.split('.')[0]}"):
        raise InputError(
            f"{path}: a run of {backbone}, which has no ODE blocks; tools/convert.py --run {path} --out FOLDER makes "
            f"an ODE run of it, whose weights fit"
        )
    with statistics_as_trained(model, content["config"]):
        load_weights(model, content.get("ema") or content["model"], origin=path)


@contextmanager
def statistics_as_trained(model: nn.Module, config: Mapping[str, Any]) -> Iterator[None]:
    """Give the norms in a model's ODE blocks a trained run's times, and afterwards move them to the model's own."""
    trained = trained_times(config) if has_ode_blocks(model) else []
    blocks = ode_blocks(model) if trained else []
    if len(blocks) != len(trained):  # of another model, as the loading will say
        yield
        return
    own = [evaluation_times(block.solver, block.t_span, budgets=block.budgets) for block in blocks]
    for block, times in zip(blocks, trained, strict=True):
        set_times(block, times)
    try:
        yield
    finally:
        for block, times in zip(blocks, own, strict=True):
            set_times(block, times)


def trained_times(config: Mapping[str, Any]) -> list[list[float]]:
    """Return the evaluation times of every ODE block of the run's backbone; none if timm can't build it."""
    arguments = budgeted_arguments(config["model"]["backbone_args"], config.get("anytime", {}).get("budgets", []))
    try:
        with torch.device("meta"):
            built = timm.create_model(config["model"]["backbone"], **arguments)
    except (RuntimeError, TypeError, ValueError):
        return []
    blocks = [module for module in built.modules() if isinstance(module, ODEBlock)]
    return [evaluation_times(block.solver, block.t_span, budgets=block.budgets) for block in blocks]


def set_times(block: ODEBlock, times: list[float]) -> None:
    """Move statistics per time to these times."""
    for module in block.field.modules():
        if hasattr(module, "set_times"):
            module.set_times(times)  # pyright: ignore[reportCallIssue]
