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
from odebackbones.errors import InputError


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

    def add(self, losses: Mapping[str, Tensor], costs: Mapping[str, int]) -> None:
        """Add a batch, with the evaluations and rejected steps of its solves."""
        for name, loss in losses.items():
            self.totals[name] = self.totals.get(name, loss.new_zeros(())) + loss.detach()
        self.solves.update(costs)
        self.batches += 1

    @property
    def elapsed(self) -> float:
        """Time spent on the epoch [s]."""
        return self.seconds + time.perf_counter() - self.started

    @property
    def loss(self) -> float:
        """Mean of the batches' losses; raises a SolverError or an InputError if it is not finite."""
        return finite_mean(self.totals, self.batches, self.epoch)

    def require_finite(self) -> None:
        """Raise a SolverError or an InputError if the losses are not finite."""
        _ = self.loss

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

    def state(self, *, of: int) -> dict[str, Any]:
        """Return the progress as tensors and plain data.

        Args:
            of: Number of this process's batches in the whole epoch.
        """
        return {
            "of": of,
            "epoch": self.epoch,
            "batches": self.batches,
            "totals": self.totals,
            "solves": dict(self.solves),
            "seconds": self.elapsed,
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any], *, of: int, origin: str) -> "EpochProgress":
        """Restore what :meth:`state` returned; of several processes, all take the first one's sums.

        Args:
            state: The progress.
            of: Number of this process's batches in the whole epoch now.
            origin: File of the checkpoint, for the error.

        Raises:
            InputError: The epoch has another number of batches now.
        """
        then = state.get("of", of)
        if then != of:
            raise InputError(
                f"{origin}: stopped within an epoch of {then} batches a process, and there are {of} now; resume with "
                f"the same data and as many processes"
            )
        kept = {name: value for name, value in state.items() if name != "of"}
        return cls(**{**kept, "totals": dict(state["totals"]), "solves": Counter(state["solves"])})


def solver_costs(model: nn.Module) -> dict[str, int]:
    """Return evaluations (``nfe/BLOCK``) and rejected steps (``rejected/BLOCK``, if any) of the latest solves."""
    stats = solver_stats(model)
    rejected = {f"rejected/{name}": s.rejected for name, s in stats.items() if s.rejected}
    return {f"nfe/{name}": s.nfe for name, s in stats.items()} | rejected


def summary(row: Mapping[str, float], epochs: int) -> str:
    """Format one row of the log for the terminal, with the evaluations of all ODE blocks together."""
    shown = {name: value for name, value in row.items() if name != "epoch" and "/" not in name}
    nfe = sum(value for name, value in row.items() if name.startswith("nfe/"))
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in (shown | ({"nfe": nfe} if nfe else {})).items())
    return f"epoch {row['epoch']:.0f}/{epochs}  {numbers}"
