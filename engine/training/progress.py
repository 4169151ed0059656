"""Progress of an epoch, which a checkpoint keeps, so that a killed run goes on in the middle of an epoch."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from engine.distributed import mean_over_processes, world_size
from engine.training.divergence import finite_mean
from odebackbones.block import solver_stats


@dataclass
class EpochProgress:
    """Position in an epoch, and the sums that its row of the log is made of.

    Attributes:
        epoch: Number of the epoch, from 0.
        batches: Number of batches that this process has done.
        totals: Sums of the losses over these batches.
        solves: Sums of the evaluations and rejected steps of the ODE blocks.
        seconds: Time that earlier processes, since killed, spent on the epoch.
        started: Time at which this process began, on the clock of :func:`time.perf_counter`.
    """

    epoch: int
    batches: int = 0
    totals: dict[str, Tensor] = field(default_factory=dict)
    solves: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, losses: Mapping[str, Tensor], model: nn.Module) -> None:
        """Add a batch."""
        for name, loss in losses.items():
            self.totals[name] = self.totals.get(name, loss.new_zeros(())) + loss.detach()
        self.solves.update(solver_costs(model))
        self.batches += 1

    @property
    def elapsed(self) -> float:
        """Time spent on the epoch [s]."""
        return self.seconds + time.perf_counter() - self.started

    @property
    def loss(self) -> float:
        """Mean of the batches' losses; raises a SolverError or an InputError if it is not finite."""
        return finite_mean(self.totals, self.batches, self.epoch)

    def row(self, *, batch_size: int, rate: float) -> dict[str, float]:
        """Return the epoch's row of the log: averages over the batches of all processes.

        Evaluations and rejected steps of the ODE blocks are averages over this process's batches.
        """
        self.totals = {name: mean_over_processes(total) for name, total in self.totals.items()}
        finite_mean(self.totals, self.batches, self.epoch)
        means = {name: float(total) / self.batches for name, total in self.totals.items()}
        costs = {name: total / self.batches for name, total in self.solves.items()}
        seconds, images = self.elapsed, self.batches * batch_size * world_size()
        return {**means, "lr": rate, "images_per_s": images / seconds, **costs, "seconds": seconds}

    def state(self) -> dict[str, Any]:
        """Return the progress as tensors and plain data."""
        return {
            "epoch": self.epoch,
            "batches": self.batches,
            "totals": self.totals,
            "solves": dict(self.solves),
            "seconds": self.elapsed,
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "EpochProgress":
        """Restore what :meth:`state` returned."""
        return cls(**{**state, "totals": dict(state["totals"]), "solves": Counter(state["solves"])})


def solver_costs(model: nn.Module) -> dict[str, int]:
    """Return evaluations (``nfe/BLOCK``) and rejected steps (``rejected/BLOCK``, if any) of the latest solves."""
    stats = solver_stats(model)
    rejected = {f"rejected/{name}": s.rejected for name, s in stats.items() if s.rejected}
    return {f"nfe/{name}": s.nfe for name, s in stats.items()} | rejected
