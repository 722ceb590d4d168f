"""Watershed of the distance to the background: round objects that touch are cut at their waists.

In the manner of CellProfiler: the foreground is cleaned by a median, the distance to the background is smoothed, its maxima are
seeds (of two that are close the higher stays), and each seed floods its surroundings (scikit-image).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import edt
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy import ndimage as ndi
from skimage.segmentation import watershed

from lamella.core.box import Box
from lamella.ops.instances.base import (
    SURE,
    Links,
    Maps,
    Method,
    Parts,
    Pieces,
    check_maps,
    first_places,
    numbered,
    spacing,
)
from lamella.ops.instances.components import connected
from lamella.ops.instances.foreground import Foreground, foreground, majority, smooth


class DistanceWatershed(Foreground):
    """Instances by a watershed of the distance to the background."""

    kind: Literal["watershed"] = "watershed"
    median: int = Field(3, ge=1)
    """Side of the window, in units of the smallest voxel side, whose median cleans the foreground; odd, 1 changes nothing."""
    suppress: int = Field(5, ge=1)
    """Of maxima within this distance, in units of the smallest voxel side, the higher is a seed."""
    smooth: float = Field(2.0, ge=0)
    """Standard deviation, in units of the smallest voxel side, by which distances are smoothed; 0: not at all."""
    intensity: float = Field(0.0, ge=0, le=1)
    """Weight of the map ``image`` (0 to 1): 0 distance alone, 1 distance times intensity. Needs that map if above 0."""
    z_step: float | None = Field(None, gt=0)
    """Distance of two sections in pixels; None: from the voxel size."""
    reach: int = Field(64, ge=1)
    """Voxels around a block that are looked at. Blocks equal the whole where every patch of connected foreground that enters a
    block ends within this distance; in larger patches, cuts far from each other may turn out otherwise."""

    @field_validator("median")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"a median needs an odd window; give {value + 1}")
        return value

    def build(self) -> DistanceWatershedMethod:
        return DistanceWatershedMethod(self)


@dataclass(frozen=True)
class DistanceWatershedMethod(Method):
    """See ``DistanceWatershed``."""

    config: DistanceWatershed

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.config.foreground_maps, *(("image",) if self.config.intensity else ()))

    @property
    def context(self) -> int:
        return self.config.reach

    @property
    def min_size(self) -> int:
        return self.config.min_size

    def parts(self, maps: Maps, write: Box, read: Box, voxel_size: Sequence[float] | None = None) -> Parts:
        steps = self._steps(voxel_size, len(check_maps(maps, self.needs)))
        mask = majority(foreground(maps, self.config), self.config.median, steps)
        height = self._height(maps, mask, steps)
        seeds, count = seeds_of(height, mask, self.config.suppress, steps)
        flooded = watershed(-height, seeds, mask=mask) if count else seeds
        return parts_of(flooded, seeds, height, write, read)

    def _steps(self, voxel_size: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
        if self.config.z_step is None or ndim == 2:
            return spacing(voxel_size, ndim)
        return spacing((self.config.z_step, 1.0, 1.0), ndim)

    def _height(self, maps: Maps, mask: NDArray[np.bool_], steps: tuple[float, ...]) -> NDArray[np.float32]:
        level = 0 if mask.all() else distances(mask, steps)  # foreground without an edge has no waist to cut
        distance = smooth(np.broadcast_to(np.float32(level), mask.shape), self.config.smooth, steps)
        if not self.config.intensity:
            return distance
        weight = self.config.intensity
        return distance * ((1 - weight) + weight * np.asarray(maps["image"], np.float32))


def distances(mask: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float32]:
    """Distance of each foreground voxel to the nearest background, whose steps along the axes are ``spacing``.

    The image's edge is not background. Without any background the distance is infinite.
    """
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    return edt.edt(np.ascontiguousarray(mask), anisotropy=tuple(spacing), black_border=False, parallel=1)


def seeds_of(
    height: NDArray[np.float32], mask: NDArray[np.bool_], suppress: int, spacing: Sequence[float]
) -> tuple[NDArray[np.int32], int]:
    """Seeds, numbered from 1: level maxima of ``height`` within ``suppress``, and one in every patch that has none."""
    size = [2 * max(int(suppress / s), 1) + 1 for s in spacing]  # the next section counts, however far
    top = mask & (height == ndi.maximum_filter(np.where(mask, height, -np.inf), size, mode="nearest"))
    patches, count = connected(mask)
    bare = np.bincount(patches[top], minlength=count + 1) == 0
    bare[0] = False
    if bare.any():
        at = ndi.maximum_position(height, patches, np.flatnonzero(bare))
        top[tuple(np.array(at).T)] = True
    seeds, number = connected(top)
    return seeds.astype(np.int32), number


def parts_of(
    labels: NDArray[np.int32], seeds: NDArray[np.int32], height: NDArray[np.float32], write: Box, read: Box
) -> Parts:
    """The write box cut from labels of a read box that grew from ``seeds``; pieces are linked to the seed that they grew from."""
    count = int(seeds.max(initial=0))
    first = first_places(seeds, count)
    inner, old = numbered(labels[write.slices(read.start)], count)
    places = np.stack(np.unravel_index(first[old - 1], read.shape), axis=1) + np.array(read.start)
    inside = np.all((places >= write.start) & (places < write.stop), axis=1)
    heights = np.where(inside, height.ravel()[first[old - 1]], np.float32(-np.inf))
    away = np.flatnonzero(~inside)
    links = Links((away + 1).astype(np.int32), places[away], np.full(len(away), SURE, np.float32))
    return Parts(inner, Pieces(np.bincount(inner.ravel(), minlength=len(old) + 1)[1:], places, heights), links)
