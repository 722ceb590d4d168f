"""What methods share that make objects of affinities: segmentations at several thresholds, and blocks of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.ops.instances.base import (
    AFFINITIES,
    Maps,
    Method,
    Parts,
    Pieces,
    crossings,
    numbered,
)

__all__ = ["AFFINITIES", "Merge", "Segmentation", "SeriesMethod", "parts_of_segments"]


@dataclass(frozen=True)
class Merge:
    """Objects ``a`` and ``b`` became ``c`` (one of the two labels) at a score."""

    a: int
    b: int
    c: int
    score: float


@dataclass(frozen=True)
class Segmentation:
    """Objects at one threshold: labels int32 (*space), 0 background, and the merges since the threshold before."""

    threshold: float
    labels: NDArray[np.int32]
    merges: tuple[Merge, ...] = ()


@runtime_checkable
class SeriesConfig(Protocol):
    """The settings that all such methods have."""

    @property
    def threshold(self) -> float: ...
    @property
    def min_size(self) -> int: ...
    @property
    def reach(self) -> int: ...


class SeriesMethod(Method):
    """A method with a threshold, at several of which it gives segmentations in one pass."""

    needs = (AFFINITIES,)

    @property
    @abstractmethod
    def settings(self) -> SeriesConfig:
        """What was configured."""

    @property
    def context(self) -> int:
        return self.settings.reach

    @property
    def min_size(self) -> int:
        return self.settings.min_size

    def parts(self, maps: Maps, write: Box, read: Box, voxel_size: Sequence[float] | None = None) -> Parts:
        (found,) = self.series(maps, [self.settings.threshold], voxel_size)
        return parts_of_segments(found.labels, write, read)

    @abstractmethod
    def series(
        self, maps: Maps, thresholds: Sequence[float], voxel_size: Sequence[float] | None = None
    ) -> Iterator[Segmentation]:
        """The segmentation at each of ``thresholds`` (in (0, 1)), rising; objects of any size."""


def parts_of_segments(labels: NDArray[np.int32], write: Box, read: Box) -> Parts:
    """The write box cut from the segments of a read box; a segment that goes on beyond an upper face is linked to what is there."""
    inner, old = numbered(labels[write.slices(read.start)], int(labels.max(initial=0)))
    sizes = np.bincount(inner.ravel(), minlength=len(old) + 1)[1:]
    nothing = np.zeros((len(old), write.ndim), np.int64)
    return Parts(inner, Pieces(sizes, nothing, np.zeros(len(old), np.float32)), crossings(labels, old, write, read))
