"""Randomness as a function of a position: seeded anew for each sample and each batch.

At a position a resumed run draws the same numbers as an uninterrupted one, whatever happened before: no generator
state has to be kept, data workers cannot freeze augmentation, and a validation in between changes nothing.
"""

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

_SAMPLE, _BATCH, _ORDER = range(3)


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def seed_batch(seed: int, epoch: int, batch: int, process: int) -> None:
    """Seed `random`, NumPy and torch (every device) for one batch of one process."""
    value = _mix(_BATCH, seed, epoch, batch, process)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


class SeededDataset(Dataset):
    """A dataset whose samples draw from `random`, NumPy and torch seeded by (seed, epoch, index).

    Indexed by the pairs (epoch, index) that `EpochSampler` yields.
    """

    def __init__(self, dataset, seed: int):
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        value = _mix(_SAMPLE, self.seed, epoch, index)
        random.seed(value)
        np.random.seed(value % 2**32)
        torch.default_generator.manual_seed(value)
        return self.dataset[index]


class EpochSampler(Sampler):
    """Yields (epoch, index) in an order that depends on the seed and on `epoch`, which the training loop sets."""

    def __init__(self, length: int, seed: int):
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(_mix(_ORDER, self.seed, self.epoch))
        for index in torch.randperm(self.length, generator=generator).tolist():
            yield self.epoch, index
