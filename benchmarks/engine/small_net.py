"""A small classifier around one ODE block, and its training."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.engine.crops import Batch, batches
from detection.data.draw import OUTLINES
from odebackbones import ODEBlock
from odebackbones.fields.norms import norm_layer
from odebackbones.fields.residual import BasicField
from odebackbones.ode import SolverConfig
from odebackbones.ode.solvers import evaluation_times

CHANNELS = 32

FieldMaker = Callable[[list[float]], nn.Module]
"""Builds a field for the times at which it is evaluated."""


class SmallNet(nn.Module):
    """A strided convolution, an ODE block, and a linear classifier.

    Args:
        make_field: Builds the block's field.
        solver: Solver of the block.
        **kwargs: Further arguments of the block.

    Shape:
        ``x: (B, 1, 24, 24) -> (B, classes)``
    """

    def __init__(self, make_field: FieldMaker, solver: SolverConfig, **kwargs: Any) -> None:
        super().__init__()
        nodes = evaluation_times(solver, budgets=kwargs.get("budgets", ()))
        self.stem = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, 2, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
        self.block = ODEBlock(make_field(nodes), solver, name="block", **kwargs)
        self.head = nn.Linear(CHANNELS, len(OUTLINES))

    def classify(self, state: Tensor) -> Tensor:
        """Compute the logits from the block's end state."""
        return self.head(F.relu(state).amax(dim=(2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        return self.classify(self.block(self.stem(x)))


def basic_field(norm: str) -> FieldMaker:
    """Return a maker of basic fields with this norm."""
    return lambda nodes: BasicField(CHANNELS, width=CHANNELS, norm=norm_layer(norm, nodes=nodes, bases=1))


def trained_net(
    make_field: FieldMaker, solver: SolverConfig, data: Batch, *, epochs: int, seed: int, **kwargs: Any
) -> SmallNet:
    """Train a network by AdamW with a one-cycle schedule, fully seeded, and return it in evaluation mode."""
    torch.manual_seed(seed)
    net = SmallNet(make_field, solver, **kwargs)
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
