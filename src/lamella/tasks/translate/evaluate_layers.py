"""Layers of a comparison: one channel at one time of a volume, and what belongs together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.io import present


@dataclass(frozen=True)
class Layer:
    """One channel at one time of ``volume`` (t c z y x). Boxes (z, y, x) count from ``start``."""

    volume: Volume
    time: int
    channel: int
    start: tuple[int, int, int]

    def within(self, box: Box) -> Box:
        """``box`` as the volume counts."""
        inner = box.shift(self.start)
        return Box((self.time, self.channel, *inner.start), (self.time + 1, self.channel + 1, *inner.stop))

    def read(self, box: Box) -> NDArray[Any]:
        """``box`` as (z, y, x)."""
        return self.volume.read(self.within(box))[0, 0]

    @property
    def where(self) -> str:
        return f"{self.volume.path}, channel {self.channel}, time {self.time}"


def exists(layer: Layer) -> NDArray[np.bool_]:
    """For each slice from the layer's start whether its frame exists."""
    box = layer.volume.box
    there = present(layer.volume)[layer.time - box.start[0], layer.channel - box.start[1]]
    return there[layer.start[0] - box.start[2] :]


@dataclass(frozen=True)
class Nearest(Layer):
    """A layer whose missing slices are those of the nearest that exists: masks may be made at few."""

    there: tuple[int, ...] = ()
    """Slices that exist, as the volume numbers them."""

    @classmethod
    def of(cls, layer: Layer) -> Nearest:
        first = layer.volume.box.start[2]
        there = exists(replace(layer, start=(first, *layer.start[1:])))
        numbers = tuple(int(z) + first for z in np.flatnonzero(there))
        return cls(layer.volume, layer.time, layer.channel, layer.start, numbers)

    def read(self, box: Box) -> NDArray[Any]:
        found = []
        for z in range(box.start[0], box.stop[0]):
            near = min(self.there, key=lambda n, z=z: abs(n - (self.start[0] + z))) - self.start[0]  # type: ignore[misc]
            found.append(super().read(Box((near, *box.start[1:]), (near + 1, *box.stop[1:])))[0])
        return np.stack(found)


@dataclass(frozen=True)
class Subject:
    """One channel of one position at one time: what was predicted, what is true, at the slices ``planes`` (counted from 0)."""

    position: str
    channel: str
    time: int
    predicted: Layer
    true: Layer
    shape: tuple[int, int, int]
    planes: tuple[int, ...]
    mask: Layer | None = None
    shown: Layer | None = None

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.position, self.channel, f"t{self.time}" if self.time else "") if part)

    @property
    def is_stack(self) -> bool:
        """Whether all slices are compared, and there are several."""
        return len(self.planes) == self.shape[0] > 1

    @property
    def runs(self) -> list[Box]:
        """Boxes of slices that follow each other."""
        parts = np.split(np.array(self.planes), np.flatnonzero(np.diff(self.planes) > 1) + 1)
        return [Box((int(part[0]), 0, 0), (int(part[-1]) + 1, *self.shape[1:])) for part in parts]

    def z(self, plane: int) -> int:
        """The number of a slice in the truth."""
        return self.true.start[0] + plane


@dataclass(frozen=True)
class Subjects:
    """All that is compared, and what is not: true positions that were not predicted."""

    items: tuple[Subject, ...]
    left_out: tuple[str, ...] = ()
