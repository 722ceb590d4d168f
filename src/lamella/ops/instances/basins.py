"""Basins of a predicted distance map: every foreground voxel climbs to the middle of its object.

The network predicts for each voxel a distance to the object's edge that is 1 in the object's middle, whatever its size. From a
voxel one goes to the neighbour that lies steepest above, from there on, until none is higher; all that reach one maximum are a
basin. Noise makes shallow extra maxima, which are merged across high passes (``merge``), the persistence of topology: two maxima
are one object if the best way from one to the other never falls below a share of the lower of them.

Each step depends on the direct neighbours alone, so blocks find the very basins of the whole: a path that leaves a block becomes
a link. Paths are followed by doubling (each voxel takes over its target's target), so a path of 1000 voxels takes 10 rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.box import Box
from lamella.ops.instances.base import SURE, Links, Maps, Method, Parts, Pieces, check_maps, spacing
from lamella.ops.instances.foreground import Foreground, foreground, smooth, smooth_reach

_AROUND = (
    16  # voxels around a block in which paths are followed before they become links; saves links, changes no result
)


class Basins(Foreground):
    """Instances by steepest ascent of the map ``distance``, within the foreground."""

    kind: Literal["basins"] = "basins"
    smooth: float = Field(1.0, ge=0)
    """Standard deviation, in units of the smallest voxel side, by which the distance map is smoothed first; 0: not at all."""
    merge: float = Field(0.8, gt=0)
    """Two maxima are one object if the pass between them reaches this share of the lower; above 1 never."""

    def build(self) -> BasinsMethod:
        return BasinsMethod(self)


@dataclass(frozen=True)
class BasinsMethod(Method):
    """See ``Basins``."""

    config: Basins

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.config.foreground_maps, "distance")

    @property
    def context(self) -> int:
        return smooth_reach(self.config.smooth) + _AROUND + 1

    @property
    def merge(self) -> float:
        return self.config.merge

    @property
    def min_size(self) -> int:
        return self.config.min_size

    def parts(self, maps: Maps, write: Box, read: Box, voxel_size: Sequence[float] | None = None) -> Parts:
        steps = spacing(voxel_size, len(check_maps(maps, self.needs)))
        known = write.grow(_AROUND).intersect(read)  # where paths are followed
        seen = known.grow(1).intersect(read)  # where they may end
        height = smooth(np.asarray(maps["distance"], np.float32), self.config.smooth, steps)[seen.slices(read.start)]
        slope = _Slope(height, foreground(maps, self.config, seen, read), seen, steps)
        roots = slope.roots(known)
        return _parts(slope, roots, write)


class _Slope:
    """The foreground voxels of a box as a list, with heights and neighbours.

    Arrays per voxel are in raster order. The box is padded by one voxel of background, so neighbours are found by a fixed step.
    """

    def __init__(
        self, height: NDArray[np.float32], mask: NDArray[np.bool_], box: Box, spacing: tuple[float, ...]
    ) -> None:
        self.box, self.spacing = box, spacing
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
        for offset in product((-1, 0, 1), repeat=self.box.ndim):
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
    for axis in range(slope.box.ndim):
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
