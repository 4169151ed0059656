"""Batches and random numbers that depend on the seed, the epoch and the position, and on nothing else.

Thus a resumed run repeats an uninterrupted one bit for bit, with any number of worker processes, and W processes
see the same batches as one process with W times the accumulation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from odebackbones.errors import InputError

SampleKey = tuple[int, int]
"""Index into the data set, and the seed of its augmentation."""


def derive_seed(*keys: int) -> int:
    """Derive a 64-bit seed from all of ``keys`` (numpy's SeedSequence)."""
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's CPU generator as after ``manual_seed(seed)``, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


class SeededDataset(Dataset[Any]):
    """A data set whose samples are drawn with the seed that comes with the index."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: SampleKey) -> Any:
        index, seed = key
        with seeded(seed):
            return self.dataset[index]


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches of one process in one epoch: a permutation, cut into updates of equal size.

    An update is ``accumulate * world_size`` batches; process r takes every ``world_size``-th one, starting at r. The
    samples left at the end of the epoch are fewer than an update and wait for the next permutation.

    Args:
        length: Number of samples in the data set.
        batch_size: Samples per batch.
        accumulate: Batches per update and process.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        start: Number of this process's first batch: earlier ones were trained on before.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        accumulate: int,
        seed: int,
        epoch: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.updates = length // (batch_size * accumulate * world_size)
        if self.updates == 0:
            raise InputError(
                f"an update takes {batch_size * accumulate * world_size} images (batch_size={batch_size} x "
                f"accumulate={accumulate} x {world_size} processes), and the training set has {length}; take less"
            )
        self.batch_size, self.accumulate = batch_size, accumulate
        self.rank, self.world_size = rank, world_size
        self.length, self.seed, self.epoch, self.start = length, seed, epoch, start

    @property
    def total(self) -> int:
        """Number of this process's batches in the whole epoch."""
        return self.updates * self.accumulate

    def __len__(self) -> int:
        return self.total - self.start

    def batch_number(self, i: int) -> int:
        """Return the number of this process's batch ``i`` among the batches of all processes."""
        return i * self.world_size + self.rank

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = np.random.default_rng(derive_seed(self.seed, self.epoch)).permutation(self.length)
        for i in range(self.start, self.total):
            start = self.batch_number(i) * self.batch_size
            indices = order[start : start + self.batch_size].tolist()
            yield [(index, derive_seed(self.seed, self.epoch, index)) for index in indices]

    def seed_batch(self, i: int) -> None:
        """Seed all generators for the forward pass of batch ``i`` (sampling of proposals, dropout)."""
        torch.manual_seed(derive_seed(self.seed, self.epoch, self.length + self.batch_number(i)))
