"""Samples of an evaluation, spread over the processes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, Subset

from engine.distributed import loader_processes
from engine.log import progress_bar


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
