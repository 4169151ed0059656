"""Processes of a run: those started by torchrun, or a single one without it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from odebackbones.errors import InputError


def rank() -> int:
    """Return this process's number, 0 if there is only one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the process group that torchrun describes in the environment, if it does."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the first process run the block before the others, which then find its files."""
    if world_size() > 1 and rank() != 0:
        dist.barrier()
    yield
    if world_size() > 1 and rank() == 0:
        dist.barrier()


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loader_processes(asked: int) -> int:
    """Return the number of data-loading processes: as asked, but at most the cores per training process."""
    return min(asked, max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))))


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; under torchrun each process gets its own GPU.

    Raises:
        InputError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"run.device={name!r}: expected auto, cpu, cuda or cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        raise InputError(f"run.device={name!r}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(f"run.device={name!r}: there are {torch.cuda.device_count()} CUDA devices here; take auto")
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's buffers: each process's running statistics cover only its own batches."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a number over all processes."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value / world_size()


def gather_lists(items: Sequence[Any]) -> list[Any]:
    """Gather the items of all processes, in the order of the processes."""
    if world_size() == 1:
        return list(items)
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]


def share(length: int) -> range:
    """Return the indices that this process evaluates: every ``world_size``-th, so that each is evaluated once."""
    return range(rank(), length, world_size())
