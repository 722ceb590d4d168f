"""Batches addressed by number: batch ``k`` of a run is the same whenever and wherever it is asked for.

A training data set gives a sample for any index from 0 on, a function of that index (and of its own seed) alone. Batch ``k`` of a
run with batches of ``b`` on ``w`` devices takes the next ``b * w`` indices, so a run resumed at step ``k`` needs none of the
samples before.

```
step        0                1
        |0 1 2 3|4 5 6 7||8 9 ...        b = 4, w = 2
         device 0 device 1
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader, default_collate

from lamella.data.sample import Sample
from lamella.data.sample import collate as join


@runtime_checkable
class Samples(Protocol):
    """Training samples: ``self[i]`` exists for every ``i >= 0``."""

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class HeldOut(Samples, Protocol):
    """Validation samples: finitely many."""

    def __len__(self) -> int: ...


class TrainingBatches:
    """Lists of indices for one device, from batch ``start`` on, without end."""

    def __init__(self, batch_size: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        self.batch_size, self.start, self.rank, self.world = batch_size, start, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        for step in count(self.start):
            first = (step * self.world + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def held_out_batches(length: int, batch_size: int) -> list[list[int]]:
    """Indices of a held-out set in batches, the last of them smaller where the length demands it."""
    return [list(range(start, min(start + batch_size, length))) for start in range(0, length, batch_size)]


def collate(samples: list[Any]) -> Any:
    """One batch of a list of samples, or of tensors or mappings of them."""
    return join(samples) if isinstance(samples[0], Sample) else default_collate(samples)


def loader(
    samples: Samples, batches: TrainingBatches | Sequence[list[int]], num_workers: int, *, pin_memory: bool = False
) -> DataLoader[Any]:
    """Read ``batches`` in order, in ``num_workers`` processes."""
    return DataLoader(
        samples,  # type: ignore[arg-type]  # a map-style data set needs no length when the batches are given
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
        multiprocessing_context="spawn" if num_workers else None,  # a fork copies locks, and TensorStore aborts in it
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(0),  # keeps the loader from drawing on the run's own chance
    )
