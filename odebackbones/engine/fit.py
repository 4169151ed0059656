"""The training loop: plain torch, one process or several, resumable to the same weights."""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from odebackbones.engine.checkpoint import BEST, LAST, load_checkpoint, load_weights, save_checkpoint
from odebackbones.engine.distributed import mean_over_processes, rank, share_buffers, world_size
from odebackbones.engine.log import History, TensorBoard, progress_bar, write_csv
from odebackbones.engine.optimisation import autocast, build_ema, build_optimizer, build_scaler, build_scheduler
from odebackbones.engine.pretraining import find_hand_over
from odebackbones.engine.sampling import EpochBatches, SeededDataset
from odebackbones.engine.task import Task, TaskConfig
from odebackbones.errors import InputError
from odebackbones.stages import solver_stats

LOG = "log.csv"
PRETRAINED = "pretrained"
"""In the metadata: the record of the hand-over, if there was one."""

UNTOLD = (
    *(f"data.{name}" for name in ("workers", "in_memory", "verify", "download")),
    *(f"eval.{name}" for name in ("solvers", "steps", "tolerances", "calibration")),
)
"""Settings that the weights don't depend on; nor do they on those of predictions."""


class Trainer:
    """One run: the state of its training, and the steps that change it.

    Args:
        task: Data, model, losses and metrics.
        config: The task's configuration.
        folder: The run's folder; it exists.
        device: Where to train.
        resume: Go on from the folder's last checkpoint.
    """

    def __init__(
        self, task: Task, config: TaskConfig, *, folder: Path, device: torch.device, resume: bool = False
    ) -> None:
        self.task, self.config, self.folder, self.device = task, config, folder, device
        self.optim = config.optim
        self.dataset = SeededDataset(task.train_dataset())
        self.updates = self.batches(0).updates
        torch.manual_seed(config.run.seed)
        self.model = place(task.build_model(loaded=resume), device, channels_last=self.optim.channels_last)
        self.optimizer = build_optimizer(self.model, self.optim)
        self.scheduler = build_scheduler(self.optimizer, self.optim, updates=self.updates)
        self.scaler = build_scaler(device, self.optim)
        self.ema = build_ema(self.model, self.optim)
        found = find_hand_over(self.model)
        self.pretrained = asdict(found) if found else None
        self.history: History = []
        self.best: float | None = None
        if resume:
            self.load(folder / LAST)
        self.replica = DistributedDataParallel(self.model) if world_size() > 1 else self.model

    @property
    def evaluated(self) -> nn.Module:
        """The weights that are evaluated and kept as the best: the moving average if there is one."""
        return self.model if self.ema is None else self.ema.module

    def batches(self, epoch: int) -> EpochBatches:
        """This process's batches of an epoch."""
        length = len(self.dataset.dataset)  # pyright: ignore[reportArgumentType]
        return EpochBatches(
            length,
            batch_size=self.optim.batch_size,
            accumulate=self.optim.accumulate,
            seed=self.config.run.seed,
            epoch=epoch,
            rank=rank(),
            world_size=world_size(),
        )

    def fit(self) -> None:
        """Train to the last epoch; after each one, evaluate, log and save."""
        board = TensorBoard(self.folder, enabled=self.config.run.tensorboard)
        for epoch in range(len(self.history), self.optim.epochs):
            start = time.perf_counter()
            row = {"epoch": float(epoch + 1), **self.train_epoch(epoch), "seconds": time.perf_counter() - start}
            last = epoch + 1 == self.optim.epochs
            evaluated = last or (epoch + 1) % self.config.run.eval_every == 0
            if evaluated:
                share_buffers(self.evaluated)
                row |= self.task.evaluate(self.evaluated, self.device)
            self.history.append(row)
            board.write(row, epoch + 1)
            if rank() == 0:
                self.save(evaluated=evaluated)
                tqdm.write(summary(row, self.optim.epochs))

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training set.

        Returns:
            Losses, a mean over the batches of all processes; the last learning rate; images/s of all processes;
            evaluations and rejected steps of every ODE block, a mean over this process's batches.
        """
        self.replica.train()
        batches = self.batches(epoch)
        workers = self.task.workers
        loader = DataLoader(
            self.dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=self.task.collate,
            pin_memory=self.device.type == "cuda",
        )
        totals: dict[str, Tensor] = {}
        solves: Counter[str] = Counter()
        start = time.perf_counter()
        with progress_bar(f"epoch {epoch + 1}/{self.optim.epochs}", total=len(batches)) as bar:
            for i, batch in enumerate(loader):
                batches.seed_batch(i)
                losses = self.train_batch(batch, last=(i + 1) % self.optim.accumulate == 0)
                solves.update(solver_costs(self.model))
                for name, loss in losses.items():
                    totals[name] = totals.get(name, loss.new_zeros(())) + loss.detach()
                if (i + 1) % self.optim.accumulate == 0:
                    self.update(epoch * self.updates + (i + 1) // self.optim.accumulate)
                bar.update()
                if i % 10 == 0:
                    bar.set_postfix_str(f"loss {finite_mean(totals, i + 1, epoch):.3f}")
        totals = {name: mean_over_processes(total) for name, total in totals.items()}
        finite_mean(totals, len(batches), epoch)
        images = len(batches) * self.optim.batch_size * world_size()
        means = {name: float(total) / len(batches) for name, total in totals.items()}
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        costs = {name: total / len(batches) for name, total in solves.items()}
        return {**means, "lr": rate, "images_per_s": images / (time.perf_counter() - start), **costs}

    def train_batch(self, batch: Any, *, last: bool) -> dict[str, Tensor]:
        """Forward and backward; gradients add up until the ``last`` batch of an update."""
        wait: AbstractContextManager[Any] = nullcontext()
        if isinstance(self.replica, DistributedDataParallel) and not last:
            wait = self.replica.no_sync()
        with wait:
            with autocast(self.device, self.optim):
                losses = self.task.losses(self.replica, batch, self.device)
                loss = torch.stack(list(losses.values())).sum() / self.optim.accumulate
            self.scaler.scale(loss).backward()
        return losses

    def update(self, number: int) -> None:
        """One step of the optimiser, the schedule and the moving average; ``number`` counts from 1."""
        if self.optim.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step(number)
        if self.ema is not None:
            self.ema.update(self.model, number)

    def save(self, *, evaluated: bool) -> None:
        """Write ``log.csv``, ``last.pt`` and, if this epoch is the best of the evaluated ones, ``best.pt``."""
        write_csv(self.history, self.folder / LOG)
        score = self.history[-1].get(self.task.monitor, float("-inf"))
        metadata = {**self.task.metadata(), PRETRAINED: self.pretrained}
        shared = {"task": self.task.name, "config": plain(self.config), "metadata": metadata}
        if evaluated and (self.best is None or score > self.best):
            self.best = score
            weights = self.evaluated.state_dict()
            save_checkpoint(self.folder / BEST, model=weights, epoch=len(self.history), score=score, **shared)
        state = {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        save_checkpoint(self.folder / LAST, history=self.history, best=self.best, **state, **shared)

    def load(self, path: Path) -> None:
        """Take up the state that :meth:`save` wrote; everything random follows from seed and epoch.

        Raises:
            InputError: The checkpoint is of a run with other settings.
        """
        state = load_checkpoint(path, task=self.task.name)
        changed = differences(filled(state["config"], plain(type(self.config)())), plain(self.config))
        if changed:
            raise InputError(
                f"{path}: can't resume with other settings than it was started with ({'; '.join(changed)}); "
                f"take the old ones, or another run.name"
            )
        load_weights(self.model, state["model"], origin=str(path))
        if self.ema is not None:
            load_weights(self.ema.module, state["ema"], origin=f"{path} (EMA)")
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history, self.best = state["history"], state["best"]
        self.pretrained = state["metadata"].get(PRETRAINED)
        self.scheduler.step(len(self.history) * self.updates)


def place(model: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """``model`` on ``device``, its 4-dimensional weights in channels-last order if asked for."""
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if channels_last else model  # pyright: ignore[reportCallIssue]


def finite_mean(totals: Mapping[str, Tensor], batches: int, epoch: int) -> float:
    """The mean total loss so far.

    Raises:
        InputError: It is not finite; the last checkpoint stays as it is.
    """
    mean = sum(float(total) for total in totals.values()) / batches
    if mean != mean or mean in (float("inf"), float("-inf")):
        names = ", ".join(f"{name} {float(total) / batches:.3g}" for name, total in totals.items())
        raise InputError(
            f"the loss is not finite in epoch {epoch + 1} ({names}); lower optim.lr, raise optim.warmup_epochs, or "
            f"set optim.clip_grad; last.pt keeps the state of the last whole epoch"
        )
    return mean


def plain(config: Any) -> dict[str, Any]:
    """The config as plain data."""
    return asdict(config)


def filled(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an older version, with the defaults of those groups and settings that it did not have."""
    groups = {name: {**group, **settings.get(name, {})} for name, group in defaults.items()}
    return {**settings, **groups}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The settings that differ and matter: not the run's place, device and logging, nor those of :data:`UNTOLD`."""
    found = []
    for key in old.keys() | new.keys():
        name, a, b = prefix + key, old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, name + ".")
        elif (
            a != b
            and name not in UNTOLD
            and not name.startswith("predict.")
            and (not name.startswith("run.") or name == "run.seed")
        ):
            found.append(f"{name} was {a!r}, is {b!r}")
    return sorted(found)


def solver_costs(model: nn.Module) -> dict[str, int]:
    """Evaluations (``nfe/BLOCK``) and rejected steps (``rejected/BLOCK``, if there are any) of the latest solves."""
    stats = solver_stats(model)
    rejected = {f"rejected/{name}": s.rejected for name, s in stats.items() if s.rejected}
    return {f"nfe/{name}": s.nfe for name, s in stats.items()} | rejected


def summary(row: Mapping[str, float], epochs: int) -> str:
    """One line of the log for the terminal; of the solvers, the evaluations of all blocks together."""
    shown = {name: value for name, value in row.items() if name != "epoch" and "/" not in name}
    nfe = sum(value for name, value in row.items() if name.startswith("nfe/"))
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in (shown | ({"nfe": nfe} if nfe else {})).items())
    return f"epoch {row['epoch']:.0f}/{epochs}  {numbers}"
