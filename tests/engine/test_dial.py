"""The dial: which figures a report has of the same weights under other solvers."""

from types import SimpleNamespace

import pytest
import torch
from test_solver_transfer import GrowthField
from torch import nn

from engine.config import DialConfig
from engine.measure import dial
from engine.measure.dial import measure_dial, with_gradient_of
from engine.report.records import Quantity
from engine.task import Probe
from odebackbones import ODEBlock, change_solver
from odebackbones.block import ode_blocks
from odebackbones.ode import SolverConfig
from odebackbones.transfer import CALIBRATED, TRAINED, solver_arguments


@pytest.mark.parametrize(("method", "gradient"), [("alf", "reversible"), ("euler", "checkpoint")])
def test_memory_is_measured_in_the_trained_gradient_mode_where_the_method_has_it(method, gradient):
    trained = nn.Sequential(ODEBlock(GrowthField(1.0), SolverConfig("leapfrog", 2, gradient="reversible")))
    changed = change_solver(trained, **solver_arguments(method, steps=2))
    assert [block.solver.gradient for block in ode_blocks(with_gradient_of(trained, changed))] == [gradient]


class HalfwayInfinite(GrowthField):
    """x' = r x, but infinite at t = 1/2."""

    def forward(self, t, x):
        return super().forward(t, x) / (t != 0.5 or 0.0 * x.sum())


class DialTask:
    """A task of one number, whose latency is the number of evaluations."""

    front = ("score",)

    def __init__(self):
        self.config = SimpleNamespace(eval=DialConfig(["euler"], steps=[1, 2, 3], calibration=1))

    def figures(self, model, device):
        return {"score": float(model(torch.ones(1, 1)))}

    def calibration_batches(self, number, device):
        return [torch.ones(1, 1)]

    def probe(self, model, device):
        x = torch.ones(1, 1, requires_grad=True)
        probe = Probe(lambda: model(x), lambda: model(x).sum(), {}, image_size=(1, 1), batch_size=1)
        probed.append((model[0].solver.steps, probe))
        return probe


def test_a_solve_that_can_not_be_finished_takes_no_row_from_the_others(monkeypatch):
    def speeds(probes, device, *, repeats):
        return {i: (Quantity("latency median", float(steps_of(probe)), "ms"),) for i, probe in probes.items()}

    probed.clear()
    steps_of = lambda probe: next(steps for steps, each in probed if each is probe)  # noqa: E731
    monkeypatch.setattr(dial, "speed_quantities", speeds)
    model = nn.Sequential(ODEBlock(HalfwayInfinite(0.5), SolverConfig("euler", 1))).eval()
    rows = measure_dial(DialTask(), model, torch.device("cpu")).rows
    assert [(row.method, row.steps, row.further.get("latency median [ms]")) for row in rows] == [
        *((TRAINED, None, 1.0), (CALIBRATED, None, 1.0)),
        *(("euler", 1, 1.0), ("euler", 2, None), ("euler", 3, 3.0)),
    ]


probed = []
"""Number of steps, and the probe, of every model that was probed."""
