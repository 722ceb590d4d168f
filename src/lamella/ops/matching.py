"""How two labellings of one image overlap: sparse tallies that are made piece by piece and added up.

Labels are integer arrays (*space), 0 background. In the truth, ``IGNORED`` marks voxels that count for nothing. Only pairs of
labels that meet are kept, so memory follows the number of objects and not its square.

Laws: ``Overlaps.of(a) + Overlaps.of(b) == Overlaps.of(a and b)`` in any order; the counts add up to the number of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box

IGNORED = -1  # what ``ignoring`` writes into the truth where there is none
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Objects:
    """Labels, each with the sums of its voxels' coordinates and whether it touches the edge of the image.

    ``ids`` int64 (n,) ascending, without background; ``areas`` int64 (n,) voxels; ``sums`` int64 (n, ndim); ``border`` bool (n,).
    """

    ids: Ints
    areas: Ints
    sums: Ints
    border: NDArray[np.bool_]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Mean coordinates (n, ndim)."""
        return self.sums / self.areas[:, None]

    @classmethod
    def total(cls, parts: Sequence[Objects]) -> Objects:
        """The sum of several."""
        ids, row = np.unique(np.concatenate([p.ids for p in parts]), return_inverse=True)
        areas, border = np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        sums = np.zeros((len(ids), parts[0].sums.shape[1]), np.int64)
        np.add.at(areas, row, np.concatenate([p.areas for p in parts]))
        np.add.at(sums, row, np.concatenate([p.sums for p in parts]))
        np.logical_or.at(border, row, np.concatenate([p.border for p in parts]))
        return cls(ids, areas, sums, border)


@dataclass(frozen=True)
class Overlaps:
    """How often each true label meets each predicted one.

    ``pairs`` int64 (k, 2) rows of (true, predicted), ascending, background and ``IGNORED`` included; ``counts`` int64 (k,) voxels.
    """

    pairs: Ints
    counts: Ints
    true: Objects
    predicted: Objects

    @classmethod
    def of(
        cls, true: NDArray[Any], predicted: NDArray[Any], box: Box | None = None, whole: Box | None = None
    ) -> Overlaps:
        """The tally of a piece of an image: ``box`` says where it lies (default: at zero) in the image ``whole`` (itself).

        >>> Overlaps.of(np.array([[0, 1, 1]]), np.array([[0, 0, 2]])).counts
        array([1, 1, 1])
        """
        assert true.shape == predicted.shape
        box = box or Box.of(true.shape)
        start, length = _runs(true, predicted)
        t, p = (labels.ravel()[start].astype(np.int64) for labels in (true, predicted))
        pairs, counts = _counted(t, p, length)
        places = np.stack(np.unravel_index(start, true.shape), axis=1) + np.array(box.start)
        sums = places * length[:, None]
        sums[:, -1] += length * (length - 1) // 2
        edge = _at_edge(places, length, whole or box)
        return cls(pairs, counts, _objects(t, length, sums, edge), _objects(p, length, sums, edge))

    def __add__(self, other: Overlaps) -> Overlaps:
        return Overlaps.total([self, other])

    @classmethod
    def total(cls, parts: Sequence[Overlaps]) -> Overlaps:
        """The sum of several, faster than one by one."""
        both = np.concatenate([p.pairs for p in parts])
        pairs, counts = _counted(both[:, 0], both[:, 1], np.concatenate([p.counts for p in parts]))
        true, predicted = (Objects.total([getattr(p, side) for p in parts]) for side in ("true", "predicted"))
        return cls(pairs, counts, true, predicted)

    def pack(self) -> dict[str, NDArray[Any]]:
        """All of it as arrays, for a file."""
        sides = {"true": self.true, "predicted": self.predicted}
        objects = {f"{name}_{key}": value for name, side in sides.items() for key, value in vars(side).items()}
        return {"pairs": self.pairs, "counts": self.counts, **objects}

    @classmethod
    def unpack(cls, packed: dict[str, NDArray[Any]]) -> Overlaps:
        """What ``pack`` packed."""
        sides = (
            Objects(*(packed[f"{name}_{key}"] for key in ("ids", "areas", "sums", "border")))
            for name in ("true", "predicted")
        )
        return cls(packed["pairs"], packed["counts"], *sides)


def ignoring(true: NDArray[Any], ignore: Sequence[int]) -> NDArray[np.int64]:
    """The truth with the labels ``ignore``, and the voxels whose face they touch, set to ``IGNORED``.

    The layer around a blob goes too, since nobody can say where a cell ends at it.
    """
    blob = np.isin(true, np.asarray(ignore))
    grown = blob.copy()
    for axis in range(true.ndim):
        a, b = (np.moveaxis(m, axis, 0) for m in (grown, blob))
        a[1:] |= b[:-1]
        a[:-1] |= b[1:]
    return np.where(grown, IGNORED, true.astype(np.int64))


def _runs(true: NDArray[Any], predicted: NDArray[Any]) -> tuple[Ints, Ints]:
    """Stretches along the last axis in which neither label changes: the flat index where each starts, and its length."""
    new = np.ones(true.shape, bool)
    new[..., 1:] = true[..., 1:] != true[..., :-1]
    new[..., 1:] |= predicted[..., 1:] != predicted[..., :-1]
    start = np.flatnonzero(new)
    return start, np.diff(start, append=true.size)


def _counted(true: Ints, predicted: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """The distinct rows of (true, predicted), ascending, each with the sum of its counts."""
    (t, t_rank), (p, p_rank) = (np.unique(labels, return_inverse=True) for labels in (true, predicted))
    keys, row = np.unique(t_rank * max(len(p), 1) + p_rank, return_inverse=True)
    pairs = np.stack([t[keys // max(len(p), 1)], p[keys % max(len(p), 1)]], axis=1)
    sums = np.zeros(len(keys), np.int64)
    np.add.at(sums, row, counts)
    return pairs, sums


def _at_edge(places: Ints, length: Ints, whole: Box) -> NDArray[np.bool_]:
    """Whether a run from each place touches a face of the image. An axis of one voxel (a single section) has no faces."""
    low, high = np.array(whole.start), np.array(whole.stop) - 1
    ends = places.copy()
    ends[:, -1] += length - 1
    thick = high > low
    return np.any(((places == low) | (ends == high)) & thick, axis=1)


def _objects(labels: Ints, lengths: Ints, sums: Ints, edge: NDArray[np.bool_]) -> Objects:
    kept = labels > 0
    return Objects.total([Objects(labels[kept], lengths[kept], sums[kept], edge[kept])])
