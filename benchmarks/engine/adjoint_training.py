"""The same small training with exact gradients and with gradients of the continuous adjoint."""

import warnings
from dataclasses import replace
from statistics import mean

from benchmarks.engine.crops import TEST_CROPS, TRAIN_CROPS, batches, train_and_test
from benchmarks.engine.small_net import basic_field, trained_net
from benchmarks.measurement import Claim, Part
from engine.report.records import Table
from odebackbones.ode import SolverConfig
from odebackbones.transfer import accuracy

EPOCHS = 8
SEEDS = (0, 1, 2)

SOLVERS: dict[str, SolverConfig] = {
    "euler, 4 steps": SolverConfig("euler", 4),
    "midpoint, 4 steps": SolverConfig("midpoint", 4),
}


def run(rounds: int) -> Part:
    """Train with every solver and both gradients, from several seeds."""
    data, held_out = train_and_test()
    rows, claims = [], []
    for name, solver in SOLVERS.items():
        scores: dict[str, list[float]] = {}
        for gradient in ("checkpoint", "adjoint"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the adjoint's inexactness is what is measured
                config = replace(solver, gradient=gradient)
                nets = [trained_net(basic_field("batch"), config, data, epochs=EPOCHS, seed=seed) for seed in SEEDS]
            scores[gradient] = [accuracy(net, batches(held_out, size=250, seed=0)) for net in nets]
            rows.append((name, gradient, *scores[gradient], mean(scores[gradient])))
        gain = mean(scores["checkpoint"]) - mean(scores["adjoint"])
        claims.append(Claim(f"accuracy, exact minus adjoint gradients, {name}", gain, 0.0, at_least=True))
    columns = ("solver", "gradient", *(f"seed {seed}" for seed in SEEDS), "mean")
    title = f"Accuracy on {TEST_CROPS} crops of shapes after {EPOCHS} epochs on {TRAIN_CROPS}"
    return Part((Table(title, columns, tuple(rows)),), tuple(claims))
