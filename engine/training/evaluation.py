"""Samples of an evaluation, spread over the processes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from engine.distributed import loader_processes
from engine.log import progress_bar


def calibration_indices(images: int, number: int, *, batch_size: int, seed: int) -> list[list[int]]:
    """Draw the images of which statistics are estimated, in batches of one size, as all batches count the same.

    Args:
        images: Number of images to draw from.
        number: Number of images to draw; all if there are fewer.
        batch_size: Images per batch; what does not fill a batch is left out, unless it is all.
        seed: Seed of the draw.
    """
    drawn = torch.randperm(images, generator=torch.Generator().manual_seed(seed))[:number].tolist()
    whole = len(drawn) - len(drawn) % batch_size if len(drawn) > batch_size else len(drawn)
    return [drawn[start : start + batch_size] for start in range(0, whole, batch_size)]


def evaluation_batches(
    dataset: Dataset[Any],
    indices: Sequence[int],
    *,
    workers: int,
    batch_size: int | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
) -> Iterable[Any]:
    """Load samples by index, in order, with a progress bar.

    Args:
        dataset: All samples.
        indices: Indices of this process's samples (:func:`engine.distributed.share`).
        workers: Processes that load data for this process; fewer if it has fewer cores.
        batch_size: Samples per batch; None gives them one by one and not as batches.
        collate: Makes a batch of samples.
    """
    loader = DataLoader(
        Subset(dataset, indices),
        batch_size=batch_size,
        num_workers=loader_processes(workers),
        collate_fn=collate,
    )
    return progress_bar("evaluation", loader)
