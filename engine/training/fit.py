"""The training loop: plain torch, one process or several, resumable to the same weights."""

import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from engine.distributed import loader_processes, rank, share_buffers, world_size
from engine.log import History, TensorBoard, progress_bar, write_csv
from engine.task import Task, TaskConfig
from engine.training.anytime import budget_passes
from engine.training.divergence import explained
from engine.training.optimization import (
    autocast,
    build_ema,
    build_optimizer,
    build_scaler,
    build_scheduler,
    precision,
)
from engine.training.progress import EpochProgress, solver_costs, summary
from engine.training.resume import load_to_resume
from engine.training.sampling import EpochBatches, SeededDataset
from engine.training.settings import PRETRAINED, to_dict
from engine.weights.checkpoint import BEST, LAST, load_weights, save_checkpoint
from engine.weights.pretrained import find_weight_transfer
from odebackbones.errors import InputError, join_names

LOG = "log.csv"


class Trainer:
    """One run: the state of its training, and the steps that change it.

    Args:
        task: Data, model, losses and metrics.
        config: The task's configuration.
        folder: Existing folder of the run.
        device: Device to train on.
        resume: Continue from the folder's last checkpoint.
    """

    def __init__(
        self, task: Task, config: TaskConfig, *, folder: Path, device: torch.device, resume: bool = False
    ) -> None:
        self.task, self.config, self.folder, self.device = task, config, folder, device
        self.optim = config.optim
        self.dataset = SeededDataset(task.train_dataset())
        self.updates = self.batches(0).updates
        torch.manual_seed(config.run.seed)
        self.model = to_device(task.build_model(loaded=resume), device, channels_last=self.optim.channels_last)
        self.optimizer = build_optimizer(self.model, self.optim)
        self.rate = 0.0  # learning rate of the latest update
        self.scheduler = build_scheduler(self.optimizer, self.optim, updates=self.updates)
        self.scaler = build_scaler(device, self.optim)
        self.ema = build_ema(self.model, self.optim)
        found = find_weight_transfer(self.model)
        self.pretrained = asdict(found) if found else None
        self.history: History = []
        self.best: float | None = None
        self.pending = False  # whether the last epoch has yet to be evaluated
        self.progress: EpochProgress | None = None  # of the epoch in which the run was killed
        if resume:
            self.load(folder / LAST)
        self.replica = DistributedDataParallel(self.model) if world_size() > 1 else self.model

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and kept as the best: the moving average if there is one."""
        return self.model if self.ema is None else self.ema.module

    def batches(self, epoch: int, *, start: int = 0) -> EpochBatches:
        """Return this process's batches of an epoch, from number ``start`` on."""
        length = len(self.dataset.dataset)  # pyright: ignore[reportArgumentType]
        return EpochBatches(
            length,
            batch_size=self.optim.batch_size,
            accumulate=self.optim.accumulate,
            seed=self.config.run.seed,
            epoch=epoch,
            start=start,
            rank=rank(),
            world_size=world_size(),
        )

    def fit(self) -> None:
        """Train to the last epoch; after each one, evaluate, log and save."""
        board = TensorBoard(self.folder, enabled=self.config.run.tensorboard)
        if self.pending:
            self.finish_epoch(board)
        for epoch in range(len(self.history), self.optim.epochs):
            progress, self.progress = self.progress or EpochProgress(epoch), None
            self.history.append({"epoch": float(epoch + 1), **self.train_epoch(progress)})
            last = epoch + 1 == self.optim.epochs
            self.pending = last or (epoch + 1) % self.config.run.eval_every == 0
            if self.pending and rank() == 0:
                self.save()  # before the evaluation, so that an error there loses nothing
            self.finish_epoch(board)

    def try_evaluation(self) -> None:
        """Evaluate a few images with the current weights, so that an error in the evaluation shows before training.

        Raises:
            InputError: The network takes images of another size.
        """
        try:
            self.task.trial(self.evaluated, self.device)
        except AssertionError as error:
            if "match" not in str(error):
                raise
            raise InputError(
                f"the model does not take these images ({error}): set the images' size in data, or take another model"
            ) from error

    def finish_epoch(self, board: TensorBoard) -> None:
        """Evaluate if it is due, log and save."""
        row, evaluated = self.history[-1], self.pending
        if evaluated:
            share_buffers(self.evaluated)
            row |= self.task.evaluate(self.evaluated, self.device)
            self.pending = False
        board.write(row, len(self.history))
        if rank() == 0:
            if evaluated:
                self.keep_best()
            self.save()
            tqdm.write(summary(row, self.optim.epochs))

    def train_epoch(self, progress: EpochProgress) -> dict[str, float]:
        """Train for one pass over the training set, from where ``progress`` stands.

        Returns:
            The epoch's row of the log, without its number.
        """
        self.replica.train()
        epoch, batches = progress.epoch, self.batches(progress.epoch, start=progress.batches)
        loader = DataLoader(
            self.dataset,
            batch_sampler=batches,
            num_workers=loader_processes(self.task.workers),
            collate_fn=self.task.collate,
            pin_memory=self.device.type == "cuda",
        )
        title, saved = f"epoch {epoch + 1}/{self.optim.epochs}", time.monotonic()
        with progress_bar(title, total=batches.total, initial=batches.start) as bar:
            for i, batch in enumerate(loader, start=batches.start):
                batches.seed_batch(i)
                with explained(progress.totals, i, epoch):
                    losses, costs = self.train_batch(batch, last=(i + 1) % self.optim.accumulate == 0)
                progress.add(losses, costs)
                bar.update()
                if i % 10 == 0:
                    bar.set_postfix_str(f"loss {progress.loss:.3f}", refresh=False)
                if (i + 1) % self.optim.accumulate == 0:
                    self.update(epoch * self.updates + (i + 1) // self.optim.accumulate)
                    if self.is_due(saved) and i + 1 < batches.total and rank() == 0:
                        progress.require_finite()  # a checkpoint of before stays as it is
                        self.save(progress)
                        saved = time.monotonic()
        return progress.row(batch_size=self.optim.batch_size, rate=self.rate)

    def is_due(self, saved: float) -> bool:
        """Whether ``run.save_every_minutes`` have passed since ``saved``, a time on the monotonic clock [s]."""
        minutes = self.config.run.save_every_minutes
        return minutes > 0 and time.monotonic() - saved >= 60 * minutes

    def train_batch(self, batch: Any, *, last: bool) -> tuple[dict[str, Tensor], Counter[str]]:
        """Run the forward and backward passes; gradients add up until the ``last`` batch of an update.

        Returns:
            The losses, and the evaluations and rejected steps of the ODE blocks, over all passes.
        """
        compute = partial(self.task.losses, self.replica, batch, self.device)
        passes = budget_passes(self.model, self.config.anytime, compute)
        found, costs = dict[str, Tensor](), Counter[str]()
        for number, losses_of in enumerate(passes, start=1):
            with self.accumulating(last and number == len(passes)):
                with autocast(self.device, self.optim):
                    losses = losses_of()
                    loss = torch.stack(list(losses.values())).sum() / self.optim.accumulate
                self.scaler.scale(loss).backward()
            costs.update(solver_costs(self.model))
            for name, part in losses.items():
                found[name] = found.get(name, 0.0) + part.detach()
        return found, costs

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Keep the processes from averaging their gradients, except in the ``last`` backward pass of an update."""
        if isinstance(self.replica, DistributedDataParallel) and not last:
            return self.replica.no_sync()
        return nullcontext()

    def update(self, number: int) -> None:
        """Step the optimizer, the schedule and the moving average; ``number`` counts the updates from 1."""
        if self.optim.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.rate = max(group["lr"] for group in self.optimizer.param_groups)
        self.scheduler.step(number)
        if self.ema is not None:
            self.ema.update(self.model, number)

    def keep_best(self) -> None:
        """Write ``best.pt`` if no evaluated epoch was better than this one; if no epoch has a score, keep the last."""
        row = self.history[-1]
        score = row.get(self.task.monitor)
        if score is None or score != score:
            if self.best is not None:
                return
            if not (self.folder / BEST).is_file():
                tqdm.write(f"{self.task.monitor} has no value on this validation set: best.pt keeps the last epoch")
        elif self.best is not None and score < self.best:
            return
        else:
            self.best = score
        weights = self.evaluated.state_dict()
        save_checkpoint(self.folder / BEST, model=weights, epoch=len(self.history), score=self.best, **self.shared())

    def save(self, progress: EpochProgress | None = None) -> None:
        """Write ``log.csv`` and ``last.pt``; in the middle of an epoch, with its ``progress``."""
        if self.history:
            write_csv(self.history, self.folder / LOG)
        state = {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": self.history,
            "best": self.best,
            "pending": self.pending,
            "progress": progress.state(of=self.updates * self.optim.accumulate) if progress else None,
        }
        save_checkpoint(self.folder / LAST, **state, **self.shared())

    def shared(self) -> dict[str, Any]:
        """Return what both files have in addition to the weights."""
        metadata = {**self.task.metadata(), PRETRAINED: self.pretrained}
        metrics = dict(self.history[-1]) if self.history else {}
        return {
            "task": self.task.name,
            "config": to_dict(self.config),
            "metadata": metadata,
            "metrics": metrics,
            "precision": precision(self.device, self.optim),
        }

    def load(self, path: Path) -> None:
        """Restore the state that :meth:`save` wrote; everything random follows from seed and epoch.

        Raises:
            InputError: The checkpoint belongs to a run with other settings or classes.
        """
        state = load_to_resume(path, self.task, self.config)
        epochs, trained = state["config"]["optim"]["epochs"], len(state["history"])
        if self.optim.epochs != epochs:
            tqdm.write(
                f"{path}: {self.optim.epochs} epochs in place of {epochs}: from epoch {trained + 1} on the learning "
                f"rate follows the schedule of {self.optim.epochs}"
            )
        classes = state["metadata"].get("classes")
        if classes is not None and classes != (now := self.task.metadata()["classes"]):
            raise InputError(
                f"{path}: was trained on the classes {join_names(classes)} in this order, the data have "
                f"{join_names(now)}; take the data of before, or another run.name"
            )
        load_weights(self.model, state["model"], origin=str(path))
        if self.ema is not None:
            load_weights(self.ema.module, state["ema"], origin=f"{path} (EMA)")
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history, self.best, self.pending = state["history"], state["best"], state.get("pending", False)
        self.pretrained = state["metadata"].get(PRETRAINED)
        updates = len(self.history) * self.updates
        if progress := state.get("progress"):
            self.progress = EpochProgress.restored(progress, of=self.updates * self.optim.accumulate, origin=str(path))
            updates += self.progress.batches // self.optim.accumulate
        self.scheduler.step(updates)


def to_device(model: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """Move ``model`` to ``device``, with its 4-dimensional weights in channels-last order if asked for."""
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if channels_last else model  # pyright: ignore[reportCallIssue]
