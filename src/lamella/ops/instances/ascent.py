"""Steepest ascent: of every foreground voxel, the maximum that one reaches by always going to the neighbour steepest above.

All voxels that reach one maximum are a basin. Each step depends on the direct neighbours alone, so blocks find the very basins of
the whole: a path that leaves the voxels that a block knows of becomes a link. Paths are followed by doubling (each voxel takes
over its target's target), so a path of 1000 voxels takes 10 rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.ops.instances.base import SURE, Links, Parts, Pieces

AROUND = (
    16  # voxels around a block in which paths are followed before they become links; saves links, changes no result
)


def ascend(
    height: NDArray[np.float32],
    mask: NDArray[np.bool_],
    write: Box,
    read: Box,
    spacing: Sequence[float],
    *,
    flat: bool = False,
) -> Parts:
    """The basins of ``write``, from the heights and the foreground of ``read`` (at least ``AROUND + 1`` voxels more, as far as the
    image goes). ``spacing`` are the lengths of steps along the axes; ``flat`` keeps the sections of a volume apart.
    """
    known = write.grow(AROUND).intersect(read)  # where paths are followed
    seen = known.grow(1).intersect(read)  # where they may end
    cut = seen.slices(read.start)
    slope = _Slope(height[cut], mask[cut], seen, tuple(spacing), flat)
    return _parts(slope, slope.roots(known), write)


class _Slope:
    """The foreground voxels of a box as a list, with heights and neighbours.

    Arrays per voxel are in raster order. The box is padded by one voxel of background, so neighbours are found by a fixed step.
    """

    def __init__(
        self, height: NDArray[np.float32], mask: NDArray[np.bool_], box: Box, spacing: tuple[float, ...], flat: bool
    ) -> None:
        self.box, self.spacing = box, spacing
        self.reach = [
            0 if flat and k < box.ndim - 2 else 1 for k in range(box.ndim)
        ]  # steps that may be taken along each axis
        self.padded = box.grow(1)
        self.flat = np.flatnonzero(np.pad(mask, 1))  # place of each voxel in the padded box
        self.height = height[mask]
        self.number = np.full(self.padded.size + 1, -1, np.int32)  # the voxel at each place, -1 background
        self.number[self.flat] = np.arange(len(self.flat), dtype=np.int32)

    def step(self, offset: Sequence[int]) -> int:
        """Distance in the padded box to the neighbour at ``offset``."""
        return int(np.ravel_multi_index([o + 1 for o in offset], self.padded.shape)) - self._centre

    @property
    def _centre(self) -> int:
        return int(np.ravel_multi_index([1] * self.box.ndim, self.padded.shape))

    def neighbour(self, offset: Sequence[int]) -> NDArray[np.int32]:
        """The voxel at ``offset`` from each, -1 where that is background."""
        return self.number[self.flat + self.step(offset)]

    def within(self, box: Box) -> NDArray[np.bool_]:
        """Whether each voxel lies in ``box``."""
        inside = np.zeros(self.padded.shape, bool)
        inside[box.slices(self.padded.start)] = True
        return inside.ravel()[self.flat]

    def coordinates(self, voxels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Global places (n, ndim)."""
        places = np.unravel_index(self.flat[voxels], self.padded.shape)
        return np.stack(places, axis=1) + np.array(self.padded.start)

    def roots(self, known: Box) -> NDArray[np.int32]:
        """Where the path of each voxel ends: at a maximum, or at the first voxel outside ``known``.

        Of equally steep neighbours a fixed one is taken, and level ground is walked in raster order, so a path never turns back
        and does not depend on the box.
        """
        target = np.arange(len(self.flat), dtype=np.int32)
        steepest = np.zeros(len(self.flat), np.float32)
        padded = np.full(self.padded.size, -np.inf, np.float32)
        padded[self.flat] = self.height
        for offset in product(*(range(-r, r + 1) for r in self.reach)):
            step = self.step(offset)
            if step == 0:
                continue
            length = np.sqrt(sum((o * s) ** 2 for o, s in zip(offset, self.spacing, strict=True)))
            rise = (padded[self.flat + step] - self.height) * np.float32(1 / length)
            better = np.flatnonzero(rise > steepest if step < 0 else rise >= steepest)
            steepest[better] = rise[better]
            target[better] = self.number[self.flat[better] + step]
        if known != self.box:
            outside = np.flatnonzero(~self.within(known))
            target[outside] = outside
        return _followed(target)


def _followed(target: NDArray[np.int32]) -> NDArray[np.int32]:
    """Where each path ends, all of which get there."""
    while True:
        further = target[target]
        if np.array_equal(further, target):
            return target
        target = further


def _parts(slope: _Slope, roots: NDArray[np.int32], write: Box) -> Parts:
    inside = slope.within(write) if write != slope.box else np.ones(len(slope.flat), bool)
    used = np.zeros(len(slope.flat), bool)
    used[roots[inside]] = True
    label = (np.cumsum(used, dtype=np.int32) * used)[roots]  # of every voxel whose root some voxel of the block has
    tops = np.flatnonzero(used)
    here = inside[tops]
    pieces = Pieces(
        np.bincount(label[inside], minlength=len(tops) + 1)[1:],
        slope.coordinates(tops),
        np.where(here, slope.height[tops], np.float32(-np.inf)),
    )
    away = Links(label[tops[~here]], pieces.peaks[~here], np.full(int((~here).sum()), SURE, np.float32))
    labels = np.zeros(slope.padded.size, np.int32)
    labels[slope.flat] = np.where(inside, label, 0)
    cut = labels.reshape(slope.padded.shape)[write.slices(slope.padded.start)]
    return Parts(np.ascontiguousarray(cut), pieces, Links.stack([away, _passes(slope, roots, label, inside)]))


def _passes(slope: _Slope, roots: NDArray[np.int32], label: NDArray[np.int32], inside: NDArray[np.bool_]) -> Links:
    """Between every two basins that touch, the highest pass from a voxel of the block to its next in z, y or x."""
    found = []
    for axis in np.flatnonzero(slope.reach).tolist():
        other = slope.neighbour([int(k == axis) for k in range(slope.box.ndim)])
        at = np.flatnonzero(inside & (other >= 0))
        at = at[roots[at] != roots[other[at]]]
        found.append(np.stack([at, other[at]]))
    here, there = np.concatenate(found, axis=1)
    saddle = np.minimum(slope.height[here], slope.height[there])
    order = np.lexsort((-saddle, roots[there], roots[here]))
    pair = np.stack([roots[here], roots[there]])[:, order]
    first = order[np.flatnonzero(np.any(np.diff(pair, axis=1, prepend=-1), axis=0))]
    return Links(label[here[first]], slope.coordinates(there[first]), saddle[first])
