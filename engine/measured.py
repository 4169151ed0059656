"""What every task's report says of a trained model besides its accuracy: cost, speed, and how they were measured."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.config import OptimConfig
from engine.optimization import precision
from engine.profile import cost_quantities, device_facts, measurement_notes, speed_quantities
from engine.report import Quantity
from engine.task import Probe, Task


@dataclass(frozen=True)
class Measured:
    """Cost and speed of a model.

    Attributes:
        probe: What was called.
        quantities: The figures.
        facts: How they came about.
        notes: What a reader must know.
    """

    probe: Probe
    quantities: tuple[Quantity, ...]
    facts: dict[str, str]
    notes: tuple[str, ...]


def measure(task: Task, model: nn.Module, device: torch.device, optim: OptimConfig, *, body: str = "") -> Measured:
    """Measure a model of ``task`` on its probe.

    Args:
        task: Gives the probe.
        model: It is not changed: training steps, which change statistics, are those of a copy.
        device: Where it is.
        optim: The precision.
        body: Name of the backbone in it, if it is but a part.
    """
    probe, trained = task.probe(model, device), copy.deepcopy(model)
    cost = cost_quantities(trained, task.probe(trained, device), device, body=body)
    speed = speed_quantities({"": probe}, device)[""]
    height, width = probe.image_size
    facts = {
        **device_facts(device),
        "speed measured at": f"batch 1, {height}x{width} px",
        "precision": precision(device, optim),
    }
    return Measured(probe, (*cost, *speed), facts, measurement_notes(device))


def described(name: str, arguments: Mapping[str, Any]) -> str:
    """A model with its arguments, for a report: ``ode_resnet34(steps=4)``."""
    given = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return f"{name}({given})" if given else name
