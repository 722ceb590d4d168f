"""Labels made block by block as the docstring of ``lamella.ops.instances`` tells, for comparison with the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.ops.instances import Maps, Method, Parts, Pieces


def grid(box: Box, size: Sequence[int]) -> list[Box]:
    """Boxes of ``size`` that cover ``box``."""
    starts = np.stack(np.meshgrid(*(range(0, n, s) for n, s in zip(box.shape, size, strict=True)), indexing="ij"), -1)
    return [Box(tuple(s), tuple(s + np.array(size))).intersect(box) for s in starts.reshape(-1, box.ndim)]


def in_blocks(
    method: Method, maps: Maps, size: Sequence[int], voxel_size: Sequence[float] | None = None
) -> NDArray[np.int32]:
    """The objects of ``maps``, from parts of ``size`` that know of each other by their links alone."""
    whole = Box.of(next(iter(maps.values())).shape)
    writes, parts = grid(whole, size), list[Parts]()
    for write in writes:
        read = write.grow(method.context).intersect(whole)
        cut = {name: values[read.slices()].copy() for name, values in maps.items()}
        parts.append(method.parts(cut, write, read, voxel_size))
    first = np.cumsum([0, *(len(p.pieces) for p in parts)])
    rows = np.full(whole.shape, -1, np.int64)  # of every voxel the row of its piece
    for write, part, offset in zip(writes, parts, first, strict=False):
        rows[write.slices()] = np.where(part.labels > 0, part.labels + offset - 1, -1)
    own = np.concatenate([p.links.labels + offset - 1 for p, offset in zip(parts, first, strict=False)])
    other = rows[tuple(np.concatenate([p.links.voxels for p in parts]).T)]
    saddles = np.concatenate([p.links.saddles for p in parts])
    known = other >= 0
    objects = method.join(Pieces.stack([p.pieces for p in parts]), np.stack([own, other], 1)[known], saddles[known])
    return np.concatenate([objects, [0]]).astype(np.int32)[rows]


def same_but_for_numbers(a: NDArray[np.integer], b: NDArray[np.integer]) -> bool:
    """Whether the two have the same background and the same objects."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return np.array_equal(a > 0, b > 0) and len(np.unique(pairs[0])) == pairs.shape[1] == len(np.unique(pairs[1]))
