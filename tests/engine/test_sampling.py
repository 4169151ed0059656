import numpy as np
import pytest
import torch

from engine.training.sampling import EpochBatches, SeededDataset, derive_seed, seeded
from odebackbones.errors import InputError


def batches(length=20, batch_size=2, accumulate=1, seed=0, epoch=0, rank=0, world_size=1):
    return EpochBatches(
        length,
        batch_size=batch_size,
        accumulate=accumulate,
        seed=seed,
        epoch=epoch,
        rank=rank,
        world_size=world_size,
    )


def test_an_epoch_takes_every_sample_once_if_the_updates_divide_it():
    indices = [index for batch in batches(20, 2, 2) for index, _ in batch]
    assert sorted(indices) == list(range(20))


def test_what_does_not_fill_an_update_is_left_out():
    assert sum(len(batch) for batch in batches(21, 4, 2)) == 16


def test_epochs_and_seeds_shuffle_differently_and_repeat_themselves():
    first = list(batches())
    assert first == list(batches())
    assert first != list(batches(epoch=1))
    assert first != list(batches(seed=1))


def test_two_processes_see_the_batches_that_one_process_accumulates():
    alone = list(batches(accumulate=2))
    pair = [list(batches(rank=rank, world_size=2)) for rank in range(2)]
    assert [batch for both in zip(*pair, strict=True) for batch in both] == alone


def test_the_generators_of_a_batch_are_the_same_in_one_process_and_in_two():
    alone, second = batches(accumulate=2), batches(rank=1, world_size=2)
    alone.seed_batch(3)
    expected = torch.rand(4)
    second.seed_batch(1)
    assert torch.equal(torch.rand(4), expected)
    second.seed_batch(2)
    assert not torch.equal(torch.rand(4), expected)


def test_a_training_set_smaller_than_an_update_is_refused_with_the_numbers():
    with pytest.raises(InputError, match=r"12 images .* has 10"):
        batches(10, 3, 2, world_size=2)


def test_a_sample_depends_on_its_seed_and_not_on_what_was_drawn_before():
    class Noise(torch.utils.data.Dataset):
        def __getitem__(self, index):
            return index + torch.rand(3)

    dataset = SeededDataset(Noise())
    first = dataset[(2, 7)]
    torch.rand(100)
    assert torch.equal(dataset[(2, 7)], first)
    assert not torch.equal(dataset[(2, 8)], first)


def test_seeded_leaves_the_generator_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(11):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


def test_derived_seeds_differ_with_every_key():
    seeds = {derive_seed(*keys) for keys in np.ndindex(6, 6, 6)}
    assert len(seeds) == 6**3
