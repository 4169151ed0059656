"""Times and solvers for the tests of dense outputs, tuples and transforms."""

import pytest
import torch

from odebackbones.ode import SolverConfig

DOUBLE = torch.float64
ASCENDING = (0.0, 0.1, 0.35, 0.4, 1.0, 1.7)
TIMES = {"ascending": ASCENDING, "descending": tuple(1.0 - 0.3 * t for t in ASCENDING)}
SOLVERS = {
    "backprop": SolverConfig("rk4", 8, "backprop"),
    "checkpoint": SolverConfig("rk4", 8, "checkpoint"),
    "two checkpoints": SolverConfig("rk4", 8, "checkpoint", checkpoints=2),
    "adaptive": SolverConfig("dopri5", gradient="checkpoint", rtol=1e-9, atol=1e-9),
    "reversible": SolverConfig("alf", 200, "reversible", state_dtype="float64"),
}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
exact = pytest.mark.parametrize("solver", list(SOLVERS.values())[:3], ids=list(SOLVERS)[:3])


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
