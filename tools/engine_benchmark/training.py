"""The same small training with exact gradients and with the continuous adjoint's."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.data.draw import OUTLINES
from odebackbones import ODEBlock
from odebackbones.engine.report import Table
from odebackbones.engine.solver_transfer import accuracy
from odebackbones.fields import BasicField, norm_layer
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times

from .claims import Claim, Part
from .crops import Batch, batches, draw_crops

CHANNELS = 32
EPOCHS = 8
SEEDS = (0, 1, 2)
TRAIN_CROPS, TEST_CROPS = 2000, 1000

SOLVERS: dict[str, SolverConfig] = {
    "euler, 4 steps": SolverConfig("euler", 4),
    "midpoint, 4 steps": SolverConfig("midpoint", 4),
}

FieldMaker = Callable[[SolverConfig], nn.Module]


class SmallNet(nn.Module):
    """A strided convolution, an ODE block, and a linear classifier.

    Args:
        solver: Of the block.
        make_field: Makes the field for a solver.

    Shape:
        ``x: (B, 1, 24, 24) -> (B, classes)``
    """

    def __init__(self, solver: SolverConfig, make_field: FieldMaker) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, 2, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
        self.block = ODEBlock(make_field(solver), solver, name="block")
        self.head = nn.Linear(CHANNELS, len(OUTLINES))

    def classify(self, state: Tensor) -> Tensor:
        """Logits from the block's state."""
        return self.head(F.relu(state).amax(dim=(2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.classify(self.block(self.stem(x)))


def basic_field(norm: str) -> FieldMaker:
    """Makes basic fields with that norm."""
    return lambda solver: BasicField(
        CHANNELS, width=CHANNELS, norm=norm_layer(norm, nodes=evaluation_times(solver), bases=1)
    )


def train(solver: SolverConfig, make_field: FieldMaker, data: Batch, *, epochs: int, seed: int) -> SmallNet:
    """A trained network: AdamW, one cycle."""
    torch.manual_seed(seed)
    net = SmallNet(solver, make_field)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-3)
    updates = epochs * len(batches(data, size=50, seed=0))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=updates)
    for epoch in range(epochs):
        for images, labels in batches(data, size=50, seed=seed * epochs + epoch):
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return net.eval()


def run(rounds: int) -> Part:
    """Train every solver with both gradients from several seeds."""
    data, held_out = draw_crops(TRAIN_CROPS, seed=0), draw_crops(TEST_CROPS, seed=1)
    rows, claims = [], []
    for name, solver in SOLVERS.items():
        scores: dict[str, list[float]] = {}
        for gradient in ("checkpoint", "adjoint"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the adjoint is not exact is what is measured
                config = replace(solver, gradient=gradient)
                nets = [train(config, basic_field("batch"), data, epochs=EPOCHS, seed=seed) for seed in SEEDS]
            scores[gradient] = [accuracy(net, batches(held_out, size=250, seed=0)) for net in nets]
            rows.append((name, gradient, *scores[gradient], mean(scores[gradient])))
        gain = mean(scores["checkpoint"]) - mean(scores["adjoint"])
        claims.append(Claim(f"accuracy, exact minus adjoint gradients, {name}", gain, 0.0, at_least=True))
    columns = ("solver", "gradient", *(f"seed {seed}" for seed in SEEDS), "mean")
    title = f"Accuracy on {TEST_CROPS} crops of shapes after {EPOCHS} epochs on {TRAIN_CROPS}"
    return Part((Table(title, columns, tuple(rows)),), tuple(claims))
