"""What every method of making instances shares: pieces, the links between them, and how they are joined to objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lamella.core.box import Box
from lamella.core.errors import UserError

Maps = Mapping[str, NDArray[Any]]
AFFINITIES = "affinities"  # the map with an axis before those of space: (n, *space)
SURE = np.float32(np.inf)  # the saddle of a link between voxels that are surely one object


@dataclass(frozen=True)
class Pieces:
    """A table of pieces, a row each.

    ``sizes`` int64 (n,) voxels; ``peaks`` int64 (n, ndim) the voxel of the piece's maximum, global; ``heights`` float32 (n,) the
    value there, -inf if the maximum lies in another block and is told by a link.
    """

    sizes: NDArray[np.int64]
    peaks: NDArray[np.int64]
    heights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def stack(cls, tables: Sequence[Pieces]) -> Pieces:
        """The rows of several tables, in order."""
        return cls(*(np.concatenate([getattr(t, name) for t in tables]) for name in ("sizes", "peaks", "heights")))


@dataclass(frozen=True)
class Links:
    """What pieces have to do with voxels elsewhere, a row each.

    ``labels`` int32 (m,) the piece, as labelled in its part; ``voxels`` int64 (m, ndim) a foreground voxel of the whole, global,
    usually of another block; ``saddles`` float32 (m,) the value at the pass between the two, or ``SURE`` if they are one.
    """

    labels: NDArray[np.int32]
    voxels: NDArray[np.int64]
    saddles: NDArray[np.float32]

    @classmethod
    def stack(cls, tables: Sequence[Links]) -> Links:
        """The rows of several tables, in order; labels stay those of their own part."""
        return cls(*(np.concatenate([getattr(t, name) for t in tables]) for name in ("labels", "voxels", "saddles")))

    @classmethod
    def none(cls, ndim: int) -> Links:
        return cls(np.zeros(0, np.int32), np.zeros((0, ndim), np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Parts:
    """The pieces of one block: ``labels`` int32 (*write box), 0 background and row + 1 of ``pieces``, and their links."""

    labels: NDArray[np.int32]
    pieces: Pieces
    links: Links


class Method(ABC):
    """A method of making instances; instances are picklable and hold no state. See the package for how blocks are joined."""

    needs: tuple[str, ...]
    """Names of the maps it reads."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Voxels around a block that ``parts`` needs to see, on every axis."""

    @property
    def merge(self) -> float:
        """Share of the lower of two maxima that the pass between them must reach to make them one object; inf: never."""
        return np.inf

    @property
    def floor(self) -> float:
        """A maximum below this is no object's: it joins the neighbour across its highest pass, whatever that pass."""
        return -np.inf

    @property
    @abstractmethod
    def min_size(self) -> int:
        """Voxels below which an object is dropped."""

    @abstractmethod
    def parts(self, maps: Maps, write: Box, read: Box, voxel_size: Sequence[float] | None = None) -> Parts:
        """The pieces of ``write``, from the maps of ``read``: ``write`` grown by the context, as far as there is an image.

        Boxes are global; voxel sizes are in any unit, in axes order (default: all equal).
        """

    def join(self, pieces: Pieces, pairs: NDArray[np.integer], saddles: NDArray[np.float32]) -> NDArray[np.int32]:
        """The object (1, 2, …) of each piece, 0 for pieces of objects that are dropped.

        ``pairs`` int (m, 2) are rows of ``pieces`` that a link of this saddle connects. Objects are numbered in the order of
        their first piece.
        """
        group = _unite(len(pieces), pairs[saddles == SURE])
        if np.isfinite(self.merge):
            group = _merge(group, pieces, pairs, saddles, self.merge, self.floor)
        sizes = np.bincount(group, pieces.sizes, minlength=1)
        kept = sizes >= self.min_size
        return (np.cumsum(kept) * kept)[group].astype(np.int32)

    def __call__(self, maps: Maps, voxel_size: Sequence[float] | None = None) -> NDArray[np.int32]:
        """The objects of a whole image, int32 (*space), numbered from 1."""
        box = Box.of(check_maps(maps, self.needs))
        part = self.parts(maps, box, box, voxel_size)
        other = part.labels[tuple(part.links.voxels.T)]
        objects = self.join(part.pieces, np.stack([part.links.labels, other], axis=1) - 1, part.links.saddles)
        return np.concatenate([np.zeros(1, np.int32), objects])[part.labels]


def check_maps(maps: Maps, needs: Sequence[str]) -> tuple[int, ...]:
    """The shape (*space) that all of ``needs`` have; a UserError if one is missing or differs."""
    missing = [name for name in needs if name not in maps]
    if missing:
        there = ", ".join(sorted(maps)) or "none"
        raise UserError(
            f"instances need the maps {', '.join(needs)}, but {', '.join(missing)} is not among those given ({there}); "
            "choose another method, or a network that predicts it"
        )
    shapes = {name: maps[name].shape[1 if name == AFFINITIES else 0 :] for name in needs}
    shape = shapes[needs[0]]
    if len(set(shapes.values())) > 1 or len(shape) not in (2, 3):
        told = ", ".join(f"{name} {'x'.join(map(str, s))}" for name, s in shapes.items())
        raise UserError(f"maps for instances must share one shape of 2 or 3 axes, (z) y x; these are {told}")
    return shape


def spacing(voxel_size: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """Voxel sizes relative to the smallest.

    >>> spacing((40.0, 10.0, 10.0), 3)
    (4.0, 1.0, 1.0)
    """
    if voxel_size is None:
        return (1.0,) * ndim
    if len(voxel_size) != ndim or min(voxel_size) <= 0:
        raise UserError(f"voxel size {tuple(voxel_size)} must be {ndim} lengths above 0, one per axis")
    return tuple(float(v) / min(voxel_size) for v in voxel_size)


def numbered(labels: NDArray[np.integer], count: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """``labels`` (values 0 to ``count``) with values that do not occur left out, and the old value of each new one from 1 on."""
    there = np.bincount(labels.ravel(), minlength=count + 1) > 0
    there[0] = False
    return (np.cumsum(there) * there).astype(np.int32)[labels], np.flatnonzero(there)


def first_places(labels: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Of each label from 1 to ``count``, the flat index of its first voxel."""
    at = np.flatnonzero(labels)[::-1]
    first = np.zeros(count + 1, np.int64)
    first[labels.ravel()[at]] = at
    return first[1:]


def crossings(labels: NDArray[np.integer], old: NDArray[np.int64], write: Box, read: Box) -> Links:
    """A link for each connected patch of an upper face of ``write`` on both sides of which there is the same segment.

    ``labels`` covers ``read``, and ``old[k]`` is in it what piece k + 1 of the write box is.
    """
    found = [Links.none(write.ndim)]
    for axis in range(write.ndim):
        if write.stop[axis] == read.stop[axis]:
            continue
        along = tuple(int(k == axis) for k in range(write.ndim))
        above = write.shift([n * k for n, k in zip(write.shape, along, strict=True)])
        face = above.intersect(write.shift(along))
        beyond = labels[face.slices(read.start)]
        within = labels[face.shift([-k for k in along]).slices(read.start)]
        patches = cc3d.connected_components(
            np.where(within == beyond, beyond, 0), connectivity=4 if face.ndim == 2 else 6, out_dtype=np.uint32
        ).reshape(face.shape)
        first = first_places(patches, int(patches.max(initial=0)))
        voxels = np.stack(np.unravel_index(first, face.shape), axis=1) + np.array(face.start)
        piece = (np.searchsorted(old, beyond.ravel()[first]) + 1).astype(np.int32)
        found.append(Links(piece, voxels, np.full(len(first), SURE, np.float32)))
    return Links.stack(found)


def _unite(count: int, pairs: NDArray[np.integer]) -> NDArray[np.int64]:
    """The group of each of ``count`` nodes, numbered in order of their first node."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    found = connected_components(graph, directed=False)[1] if count else np.zeros(0, np.int32)
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _merge(
    group: NDArray[np.int64],
    pieces: Pieces,
    pairs: NDArray[np.integer],
    saddles: NDArray[np.float32],
    share: float,
    floor: float,
) -> NDArray[np.int64]:
    """``group`` with basins merged across passes that reach ``share`` of the lower of the two maxima, or if that maximum is below
    ``floor``; the highest pass first.

    A maximum counts with what was merged into it before, so a shallow basin on the ridge between two objects joins one of them
    and does not tie the two together. Equal passes are taken in the order of the maxima's places, so the numbering of pieces and
    the cutting into blocks do not matter.
    """
    height, place = _basins(group, pieces)
    a, b = (group[pairs[:, k]] for k in (0, 1))
    lower = np.minimum(height[a], height[b])
    likely = (a != b) & (
        (saddles >= share * lower) | (lower < floor)
    )  # maxima only rise, so no other pass can come true
    a, b, saddles = a[likely], b[likely], saddles[likely]
    low, high = np.minimum(place[a], place[b]), np.maximum(place[a], place[b])
    order = np.lexsort((high, low, -saddles))
    parent, top = list(range(len(height))), height.tolist()
    for x, y, saddle in zip(a[order].tolist(), b[order].tolist(), saddles[order].tolist(), strict=True):
        x, y = _root(parent, x), _root(parent, y)
        lower_top = min(top[x], top[y])
        if x != y and (saddle >= share * lower_top or lower_top < floor):
            kept, lost = (x, y) if top[x] >= top[y] else (y, x)
            parent[lost] = kept
    roots = np.array([_root(parent, k) for k in range(len(parent))], np.int64)
    return _unite(len(group), np.stack([np.arange(len(group)), _first_of(group)[roots[group]]], axis=1))


def _basins(group: NDArray[np.int64], pieces: Pieces) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Of each group, the height of its maximum, and the rank of the maximum's place among all (z, then y, then x)."""
    order = np.lexsort((-pieces.heights, group))
    first = order[np.flatnonzero(np.diff(group[order], prepend=-1))]
    place = np.empty(len(first), np.int64)
    place[np.lexsort(pieces.peaks[first].T[::-1])] = np.arange(len(first))
    return pieces.heights[first], place


def _first_of(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first member of each group."""
    return np.unique(group, return_index=True)[1]


def _root(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node
