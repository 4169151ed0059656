"""Is it an ODE? Small networks trained in several ways, each evaluated with solvers that it was not trained with."""

from typing import Any

import torch

from benchmarks.engine.crops import TEST_CROPS, batches, train_and_test
from benchmarks.engine.small_net import SmallNet, basic_field, trained_net
from benchmarks.measurement import Part
from engine.report.records import Table
from engine.report.transfer import transfer_curves
from odebackbones.ode import SolverConfig
from odebackbones.transfer import TRIED_STEPS, Transfer, convergence_order, solver_transfer

EPOCHS = 8
SOLVED_BY = ("euler", "midpoint", "rk4")

TRAININGS: dict[str, tuple[SolverConfig, dict[str, Any]]] = {
    "euler, 4 steps": (SolverConfig("euler", 4), {}),
    "midpoint, 4 steps": (SolverConfig("midpoint", 4), {}),
    "midpoint, 1 to 8 steps drawn": (SolverConfig("midpoint", 4), {"budgets": (1, 2, 4, 8)}),
    "midpoint, 4 steps, STEER 0.5": (SolverConfig("midpoint", 4), {"steer": 0.5}),
}


def run(rounds: int) -> Part:
    """Train, then measure the accuracy with statistics calibrated for every solver; nothing is timed."""
    data, held_out = train_and_test()
    tests, calibration = batches(held_out, size=250, seed=0), batches(data, size=250, seed=0)[:4]
    rows, orders, curves = [], [], []
    for name, (solver, kwargs) in TRAININGS.items():
        net = trained_net(basic_field("batch"), solver, data, epochs=EPOCHS, seed=0, **kwargs)
        found = solver_transfer(net, tests, methods=SOLVED_BY, steps=TRIED_STEPS, calibrate_on=calibration)
        rows += [(name, method, found[0].metric, *metrics(found, method)) for method in SOLVED_BY]
        orders.append((name, *(measured_order(net, method, tests[0][0]) for method in SOLVED_BY)))
        curves += transfer_curves(found, name=f"accuracy, trained with {name}")
    title = f"Accuracy on {TEST_CROPS} crops of shapes, trained in one way and solved in others"
    return Part(
        (
            Table(
                title, ("trained with", "solved by", "as trained", *(f"{n} steps" for n in TRIED_STEPS)), tuple(rows)
            ),
            Table("Measured order of convergence of the trained block", ("trained with", *SOLVED_BY), tuple(orders)),
        ),
        curves=tuple(curves),
    )


def metrics(found: list[Transfer], method: str) -> list[float]:
    """Return the metric under ``method``, by number of steps."""
    return [row.metric for row in found[1:] if row.method == method]


def measured_order(net: SmallNet, method: str, images: torch.Tensor) -> float:
    """Measure the order at which the block's flow of some images converges, in float64."""
    net = net.double()
    state = net.stem(images[:16].double()).detach()
    order = convergence_order(net.block, state, method=method).order
    net.float()
    return order
