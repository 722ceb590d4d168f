"""Mutex watershed: objects of affinities of any reach at once, without seeds and fragments (mwatershed).

Affinities above 1 - threshold attract, those below repel. All pairs of voxels are gone through, the strongest first: one that attracts
joins the two objects unless they were forbidden to be one; one that repels forbids it. Affinities to voxels farther away tell
what a gap in a boundary one voxel thick cannot. A voxel that no other attracts is background.

(Wolf et al., 2018, The mutex watershed: efficient, parameter-free image partitioning.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import fastremap
import mwatershed
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.ops.affinities import Offsets, check_offsets, nearest
from lamella.ops.instances.affine import AFFINITIES, Segmentation, SeriesMethod
from lamella.ops.instances.agglomeration import check_thresholds
from lamella.ops.instances.base import Maps, check_maps


class Mutex(Config):
    """Instances of the map ``affinities`` by mutex watershed."""

    kind: Literal["mutex"] = "mutex"
    threshold: float = Field(0.5, gt=0, lt=1)
    """Affinities above 1 - threshold attract, so the higher, the larger the objects."""
    offsets: tuple[tuple[int, ...], ...] | None = None
    """The offset (z) y x of each affinity; the voxel before along each axis if not given."""
    strides: tuple[tuple[int, ...], ...] | None = None
    """For each offset, every how many voxels (z) y x its pairs count; long offsets forbid much, and need fewer. All if not given."""
    min_size: int = Field(0, ge=0)
    """Objects of fewer voxels are dropped."""
    reach: int = Field(64, ge=1)
    """Voxels around a block that are looked at. Blocks are near to the whole, and equal it where a block's objects are decided within
    this distance."""

    @model_validator(mode="after")
    def _check(self) -> Mutex:
        if self.strides is not None:
            if self.offsets is None or [len(s) for s in self.strides] != [len(o) for o in self.offsets]:
                raise ValueError("strides need offsets, and one stride of as many axes for each")
            if min(min(s) for s in self.strides) < 1:
                raise ValueError("strides are steps of one voxel or more")
        return self

    def build(self) -> MutexMethod:
        return MutexMethod(self)


@dataclass(frozen=True)
class MutexMethod(SeriesMethod):
    """See ``Mutex``."""

    config: Mutex

    @property
    def settings(self) -> Mutex:
        return self.config

    def series(
        self, maps: Maps, thresholds: Sequence[float], voxel_size: Sequence[float] | None = None
    ) -> Iterator[Segmentation]:
        check_thresholds(thresholds)
        ndim = len(check_maps(maps, self.needs))
        offsets = check_offsets(self.config.offsets or nearest(ndim), ndim)
        if len(offsets) != len(maps[AFFINITIES]):
            raise UserError(
                f"there are {len(maps[AFFINITIES])} affinities for {len(offsets)} offsets; give the offsets of the training"
            )
        for threshold in sorted(thresholds):
            yield Segmentation(
                float(threshold), mutex_watershed(maps[AFFINITIES], offsets, threshold, self.config.strides)
            )


def mutex_watershed(
    affinities: NDArray[Any],
    offsets: Offsets,
    threshold: float,
    strides: Sequence[Sequence[int]] | None = None,
) -> NDArray[np.int32]:
    """Labels (*space) of affinities (n, *space), 0 background, objects from 1."""
    signed = np.ascontiguousarray(affinities, np.float64) - (1 - threshold)
    steps = None if strides is None else [list(s) for s in strides]
    found = mwatershed.agglom(signed, [list(o) for o in offsets], strides=steps)
    return fastremap.renumber(found, in_place=True)[0].astype(np.int32)
