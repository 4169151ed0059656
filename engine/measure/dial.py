"""The dial between speed and precision: a trained model's figures, time and memory under other solvers."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from engine.config import DialConfig
from engine.log import warn
from engine.measure.profile import speed_quantities, training_memory_mib
from engine.report.front import front_pictures
from engine.report.records import Point, Quantity, Report
from engine.report.transfer import transfer_table
from engine.task import Task
from odebackbones.block import ode_blocks
from odebackbones.convert.solver import change_solver
from odebackbones.errors import InputError
from odebackbones.ode import METHODS
from odebackbones.transfer import Transfer, solver_arguments, solver_transfer, solver_variants

ROUNDS = 10
"""Rounds in which the models under the different solvers take turns to be timed."""


@dataclass(frozen=True)
class Dial:
    """A model under other solvers.

    Attributes:
        rows: One per solver and setting, the first for the model as it was trained; empty without solvers to try.
        metric: Name of the rows' metric; the others are among their further figures.
    """

    rows: tuple[Transfer, ...] = ()
    metric: str = ""

    @property
    def points(self) -> tuple[Point, ...]:
        """The rows of other solvers, for plots of accuracy over cost."""
        return tuple(
            Point(row.method, row.steps, row.tolerance, {self.metric: row.metric, "NFE": row.nfe, **row.further})
            for row in self.rows
            if row.method in METHODS and row.further
        )


def measure_dial(task: Task, model: nn.Module, device: torch.device) -> Dial:
    """Measure a model under the solvers that the task's configuration names.

    Raises:
        InputError: The model has no ODE blocks, or does not support one of the solvers.
    """
    config: DialConfig = task.config.eval
    if not config.solvers:
        if unused := dial_settings(config).items() - dial_settings(DialConfig()).items():
            given = ", ".join(f"eval.{name}={value}" for name, value in sorted(unused))
            warn(f"{given}: no other solver is tried; give eval.solvers, e.g. [euler]")
        return Dial()
    warn_of_unused(config)
    memory = f"training memory, batch {task.probe(model, device).batch_size} [MiB]"
    solved: list[nn.Module] = []  # the models whose solves could be finished

    def measured_memory(changed: nn.Module) -> float:
        solved.append(changed)
        probe = task.probe(with_gradient_of(model, changed), device)
        return training_memory_mib(changed, probe.loss, device)

    rows = solver_transfer(
        model,
        (),
        metric=lambda changed, data: task.figures(changed, device),
        methods=config.solvers,
        steps=[tuple(steps) if isinstance(steps, list) else steps for steps in config.steps],
        tolerances=config.tolerances,
        calibrate_on=task.calibration_batches(config.calibration, device) if config.calibration else None,
        further={memory: measured_memory},
    )
    done = (str(i) for i, row in enumerate(rows) if memory in row.further)
    probes = {i: task.probe(each, device) for i, each in zip(done, solved, strict=True)}
    speeds = speed_quantities(probes, device, repeats=ROUNDS)
    timed = [
        replace(row, further={**row.further, **speed_figures(speeds.get(str(i), ()))}) for i, row in enumerate(rows)
    ]
    return Dial(tuple(timed), next(iter(task.front)))


def tried_settings(config: DialConfig) -> list[tuple[str, Any, Any]]:
    """Return method, steps and tolerance of everything that a configuration tries, as points of reports have them."""
    steps = [tuple(each) if isinstance(each, list) else each for each in config.steps]
    variants = solver_variants(config.solvers, steps=steps, tolerances=config.tolerances)
    return [(each["method"], each.get("steps"), each.get("rtol")) for each in variants] if config.solvers else []


def warn_of_unused(config: DialConfig) -> None:
    """Warn of steps that no solver takes, or of tolerances."""
    fixed = [name for name in config.solvers if METHODS[name].build is not None]
    for name, able, kind in (
        ("steps", fixed, "fixed steps"),
        ("tolerances", set(config.solvers) - set(fixed), "a tolerance"),
    ):
        if getattr(config, name) != getattr(DialConfig(), name) and not able:
            warn(f"eval.{name}={getattr(config, name)}: none of eval.solvers={config.solvers} has {kind}")


def with_gradient_of(model: nn.Module, changed: nn.Module) -> nn.Module:
    """Give the changed model's blocks the gradient modes of the model's, where their solvers support them."""
    for own, block in zip(ode_blocks(model), ode_blocks(changed), strict=True):
        with suppress(InputError):
            block.set_solver(replace(block.solver, gradient=own.solver.gradient))
    return changed


def with_dial(report: Report, dial: Dial, *, front: tuple[str, ...]) -> Report:
    """Add the dial to a run's report: a table, the points, and a picture of accuracy over cost."""
    report = replace(report, front=front, points=dial.points)
    if not dial.rows:
        return report
    table = transfer_table(dial.rows, name=dial.metric)
    pictures = front_pictures([report], [report.name])
    return replace(report, tables=(table, *report.tables), headline=pictures)


def dial_settings(config: DialConfig) -> dict[str, str]:
    """Return the settings that take effect with solvers only, as text; a changed solver is calibrated, too."""
    return {name: str(getattr(config, name)) for name in DialConfig.__dataclass_fields__ if name != "calibration"}


def speed_figures(speeds: Sequence[Quantity]) -> dict[str, float]:
    """Return the median latency, and the throughput if there is one, by their labels."""
    return {
        q.label: q.value
        for q in speeds
        if q.value is not None and (q.name == "latency median" or q.name.startswith("throughput"))
    }


def changed_models(model: nn.Module, points: Sequence[Point]) -> list[nn.Module]:
    """Return copies of a model under the solvers of the points, without new statistics."""
    arguments = (solver_arguments(point.solver, steps=point.steps, tolerance=point.tolerance) for point in points)
    return [change_solver(model, **each) for each in arguments]
