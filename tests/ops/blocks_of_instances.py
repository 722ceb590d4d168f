"""Labels made block by block as the docstring of ``lamella.ops.instances`` tells, for comparison with the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import cover
from lamella.core.box import Box
from lamella.ops.instances import Maps, Method, Pieces


def in_blocks(
    method: Method, maps: Maps, size: Sequence[int], voxel_size: Sequence[float] | None = None
) -> NDArray[np.int32]:
    """The objects of ``maps``, from parts of ``size`` that know of each other by their links alone."""
    whole = Box.of(next(iter(maps.values())).shape)
    blocks = cover(whole, size, method.context, bounds=whole)
    parts = []
    for block in blocks:
        cut = {name: values[block.read.slices()].copy() for name, values in maps.items()}
        parts.append(method.parts(cut, block.write, block.read, voxel_size))
    first = np.cumsum([0, *(len(p.pieces) for p in parts)])[:-1]
    rows = np.full(whole.shape, -1, np.int64)  # of every voxel the row of its piece
    for block, part, offset in zip(blocks, parts, first, strict=True):
        rows[block.write.slices()] = np.where(part.labels > 0, part.labels + offset - 1, -1)
    own = np.concatenate([p.links.labels + offset - 1 for p, offset in zip(parts, first, strict=True)])
    other = rows[tuple(np.concatenate([p.links.voxels for p in parts]).T)]
    saddles = np.concatenate([p.links.saddles for p in parts])
    known = other >= 0
    objects = method.join(Pieces.stack([p.pieces for p in parts]), np.stack([own, other], 1)[known], saddles[known])
    return np.concatenate([objects, np.zeros(1, np.int32)])[rows]


def same_but_for_numbers(a: NDArray[np.integer], b: NDArray[np.integer]) -> bool:
    """Whether the two have the same background and the same objects."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    one_to_one = len(np.unique(pairs[0])) == pairs.shape[1] == len(np.unique(pairs[1]))
    return one_to_one and np.array_equal(a > 0, b > 0)
