"""Cost and speed of a trained model, and how they were measured, for the reports of all tasks."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from engine.config import OptimConfig
from engine.measure.profile import cost_quantities, device_facts, measurement_notes, speed_quantities
from engine.report.records import Quantity
from engine.task import Probe, Task
from engine.training.optimization import precision


@dataclass(frozen=True)
class ModelCost:
    """Cost and speed of a model.

    Attributes:
        probe: Model calls that were measured.
        quantities: The figures.
        facts: How the figures came about.
        notes: Notes that a reader must know.
    """

    probe: Probe
    quantities: tuple[Quantity, ...]
    facts: dict[str, str]
    notes: tuple[str, ...]


def measure(task: Task, model: nn.Module, device: torch.device, optim: OptimConfig, *, body: str = "") -> ModelCost:
    """Measure a model of ``task`` on its probe.

    Args:
        task: Task that provides the probe.
        model: Model to measure. It is not changed: training steps, which change statistics, run on a copy.
        device: Device of the model.
        optim: Settings of the precision.
        body: Name of the backbone in the model, if it is only a part of it.
    """
    probe, trained = task.probe(model, device), copy.deepcopy(model)
    cost = cost_quantities(trained, task.probe(trained, device), device, body=body)
    speed = speed_quantities({"": probe}, device)[""]
    return ModelCost(probe, (*cost, *speed), speed_facts(probe, device, optim), measurement_notes(device))


def speed_facts(probe: Probe, device: torch.device, optim: OptimConfig) -> dict[str, str]:
    """Return how the speed of a probe is measured: the device, the size of the images and the precision."""
    height, width = probe.image_size
    size = f"batch 1, {height}x{width} px"
    return {**device_facts(device), "speed measured at": size, "precision": precision(device, optim)}
