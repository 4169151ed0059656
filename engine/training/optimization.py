"""Optimizer, schedule, moving average and autocast, as set in the config."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from engine.config import AMP_DTYPES, OptimConfig
from engine.training.cpu_precision import cpu_has_bfloat16


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Build timm's optimizer of this name; biases and norms (one-dimensional parameters) don't decay."""
    return create_optimizer_v2(
        model, opt=config.opt, lr=config.lr, weight_decay=config.weight_decay, momentum=config.momentum
    )


def build_scheduler(optimizer: torch.optim.Optimizer, config: OptimConfig, *, updates: int) -> Scheduler:
    """Build timm's schedule with linear warm-up, stepped per update.

    Args:
        optimizer: Optimizer that the schedule drives.
        config: Schedule, epochs, warm-up.
        updates: Updates per epoch.
    """
    warmup_updates = round(warmup_of(config) * updates)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.schedule,
        num_epochs=config.epochs * updates,
        decay_milestones=[m * updates + 1 for m in sorted(config.milestones)],  # timm decays one step early
        decay_rate=0.1,
        min_lr=0.0,
        warmup_epochs=warmup_updates,
        warmup_lr=config.lr / max(1, warmup_updates),
        warmup_prefix=False,
        step_on_epochs=True,  # our "epochs" are updates: everything above is counted in updates
    )
    return scheduler  # pyright: ignore[reportReturnType] (None only for no schedule)


def warmup_of(config: OptimConfig) -> float:
    """Return the epochs of warm-up: the config's, but at most half of all epochs."""
    return min(config.warmup_epochs, config.epochs / 2)


def build_ema(model: nn.Module, config: OptimConfig) -> ModelEmaV3 | None:
    """Build timm's moving average of the weights, with its warm-up; None if it is off."""
    return ModelEmaV3(model, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None


def precision(device: torch.device, config: OptimConfig) -> str:
    """Return the forward pass's precision: the config's ``amp``, but float32 on a CPU that only emulates bfloat16."""
    if config.amp == "none" or (config.amp == "bfloat16" and device.type == "cpu" and not cpu_has_bfloat16()):
        return "float32"
    return config.amp


def images_to_device(images: Tensor, device: torch.device, config: OptimConfig) -> Tensor:
    """Move a batch ``(B, C, H, W)`` to ``device``, in the memory order of the weights."""
    order = torch.channels_last if config.channels_last else torch.contiguous_format
    return images.to(device, non_blocking=True, memory_format=order)


@contextmanager
def autocast(device: torch.device, config: OptimConfig) -> Iterator[None]:
    """Run the forward pass in its :func:`precision`."""
    dtype = AMP_DTYPES[config.amp]
    with torch.autocast(device.type, dtype, enabled=precision(device, config) != "float32"):
        yield


def build_scaler(device: torch.device, config: OptimConfig) -> torch.amp.GradScaler:
    """Build the loss scaling that float16's narrow range needs; bfloat16 needs none."""
    return torch.amp.GradScaler(device.type, enabled=config.amp == "float16")
