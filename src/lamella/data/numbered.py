"""Samples by number: each a function of its number alone, so that any can be had without those before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from lamella.core.errors import UserError
from lamella.data.sample import Sample


class Numbered(ABC):
    """Samples 0, 1, 2 and so on, up to ``len``."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


class Drawn(Numbered):
    """Samples that are drawn: without end, or ``length`` different ones, which then repeat. Their ``seed`` names the streams."""

    length: int | None
    seed: int

    def __len__(self) -> int:
        if self.length is None:
            raise UserError("these samples have no end; set data.length to the number of samples to hold out")
        return self.length

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index if self.length is None else index % self.length)

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """The sample of the random stream (``seed``, ``index``)."""


class Chances:
    """Draws one of several things, each as often as its weight says."""

    def __init__(self, weights: Sequence[float]) -> None:
        ends = np.cumsum(weights)
        self._ends = ends / ends[-1]

    def pick(self, rng: np.random.Generator) -> int:
        return int(np.searchsorted(self._ends, rng.random(), side="right"))
