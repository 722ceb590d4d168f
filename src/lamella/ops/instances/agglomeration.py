"""Agglomeration: fragments of a watershed are merged, the surest pair first, until no pair is sure enough (waterz).

```
affinities -> boundary map -> fragments -> merged while a pair's score is below the threshold -> objects
```
The *score* of two fragments that touch is 1 - the affinity between them: the median, another quantile, or the mean of the
affinities of all pairs of voxels across their contact. When two fragments merge, their contacts with a third become one.
Segmentations at rising thresholds are nested, and one pass gives them all with the history of the merges.

(Funke et al., 2019, Large scale image segmentation with structured loss based deep learning for connectome reconstruction.)
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import waterz
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.errors import UserError
from lamella.ops.affinities import nearest, nearest_affinities
from lamella.ops.instances.affine import AFFINITIES, Merge, Segmentation, SeriesMethod
from lamella.ops.instances.base import Maps, check_maps
from lamella.ops.instances.fragments import Fragments, FragmentsConfig, make_fragments

_GRAPH = "RegionGraphType"
_SIZES = "Divide<Subtract<{0}, {1}>, Add<{0}, {1}>>".format(f"MaxSize<{_GRAPH}>", f"MinSize<{_GRAPH}>")

_PRINTING = threading.Lock()


class Agglomeration(FragmentsConfig):
    """Instances of the map ``affinities`` by merging fragments."""

    kind: Literal["agglomeration"] = "agglomeration"
    threshold: float = Field(0.5, gt=0, lt=1)
    """Fragments merge while their score, 1 - affinity, is below this: the higher, the larger the objects."""
    scorer: Literal["quantile", "mean", "sizes"] = "quantile"
    """What scores a contact: a quantile of its affinities, their mean, or how different the two are in size, whatever the
    affinities."""
    quantile: int = Field(50, ge=10, le=95, multiple_of=5)
    """For ``quantile``: which, in per cent; 50 is the median."""
    start_at_max: bool = False
    """For ``quantile``: of a contact between two fragments that have not merged yet only the highest affinity counts."""
    both_sides: bool = True
    """An affinity counts for the pair of voxels before, too, if it is lower. It is stored at one of its two voxels, and where a flood
    gives that to the object on the other side, a boundary one voxel thick would otherwise lie within a fragment and not at its
    contact."""
    offsets: tuple[tuple[int, ...], ...] | None = None
    """The offset (z) y x of each affinity; the voxel before along each axis if not given."""
    min_size: int = Field(0, ge=0)
    """Objects of fewer voxels are dropped."""
    reach: int = Field(64, ge=1)
    """Voxels around a block that are looked at. Blocks are near to the whole, and equal it where the fragments and merges of a block's
    objects are decided within this distance."""

    @property
    def waterz_scorer(self) -> str:
        """The scorer as waterz is told."""
        if self.scorer == "sizes":
            return _SIZES
        if self.scorer == "mean":
            return f"OneMinus<MeanAffinity<{_GRAPH}, ScoreValue>>"
        start = "true" if self.start_at_max else "false"
        return f"OneMinus<HistogramQuantileAffinity<{_GRAPH}, {self.quantile}, ScoreValue, 256, {start}>>"

    def build(self) -> AgglomerationMethod:
        return AgglomerationMethod(self)


@dataclass(frozen=True)
class AgglomerationMethod(SeriesMethod):
    """See ``Agglomeration``."""

    config: Agglomeration

    @property
    def settings(self) -> Agglomeration:
        return self.config

    def fragments(self, maps: Maps, voxel_size: Sequence[float] | None = None) -> Fragments:
        """What is merged."""
        return make_fragments(self._near(maps), self.config, voxel_size)

    def series(
        self, maps: Maps, thresholds: Sequence[float], voxel_size: Sequence[float] | None = None
    ) -> Iterator[Segmentation]:
        yield from self.merged(self.fragments(maps, voxel_size), maps, thresholds)

    def merged(self, fragments: Fragments, maps: Maps, thresholds: Sequence[float]) -> Iterator[Segmentation]:
        """The series of fragments that were made before."""
        return agglomerate(fragments, self._near(maps), thresholds, self.config)

    def _near(self, maps: Maps) -> NDArray[np.float32]:
        ndim = len(check_maps(maps, self.needs))
        return nearest_affinities(maps[AFFINITIES], self.config.offsets or nearest(ndim))


def agglomerate(
    fragments: Fragments, near: NDArray[np.float32], thresholds: Sequence[float], config: Agglomeration
) -> Iterator[Segmentation]:
    """The segmentation at each threshold, rising, from nearest affinities (ndim, *space); each tells the merges since the one before.

    An object keeps the label of one of its fragments. The background merges with nothing and becomes 0.
    """
    check_thresholds(thresholds)
    near = on_both_sides(near) if config.both_sides else near
    labels, shape = np.where(fragments.labels == fragments.background, 0, fragments.labels), fragments.labels.shape
    if labels.ndim == 2:  # waterz takes volumes
        labels, near = labels[None], np.concatenate([np.zeros((1, 1, *shape), np.float32), near[:, None]])
    made = waterz.agglomerate(  # begins with the first ``next``
        np.ascontiguousarray(near, np.float32),
        [float(t) for t in sorted(thresholds)],
        fragments=labels.astype(np.uint64),
        scoring_function=config.waterz_scorer,
        return_merge_history=True,
    )
    for threshold in sorted(thresholds):
        with _silent():
            segments, history = next(made)
        found = segments.astype(np.int32).reshape(shape)
        yield Segmentation(float(threshold), found, tuple(_merge(m) for m in history))


def on_both_sides(near: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nearest affinities (ndim, *space), each the lower of itself and of the one before it along its axis.

    >>> on_both_sides(np.array([[0.9, 0.9, 0.1, 0.9, 0.9]], np.float32))
    array([[0.9, 0.9, 0.1, 0.1, 0.9]], dtype=float32)
    """
    lower = near.copy()
    for axis, values in enumerate(near):
        after, before = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
        np.minimum(values[after], values[before], out=lower[axis][after])
    return lower


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Refuse thresholds that affinities cannot have."""
    if not len(thresholds):
        raise UserError("there is no threshold; give one at least, for example 0.5")
    if wrong := [t for t in thresholds if not 0 < t < 1]:
        raise UserError(
            f"threshold {wrong[0]:g} is outside (0, 1); affinities are shares, give for example 0.25, 0.5, 0.75"
        )
    if len(set(thresholds)) < len(thresholds):
        raise UserError(f"a threshold of {', '.join(f'{t:g}' for t in thresholds)} is given twice; leave one out")


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what waterz prints, which no option turns off, from the output of the command."""
    with _PRINTING:
        sys.stdout.flush()
        kept = os.dup(1)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # it prints from Python and from C++
            os.dup2(nowhere.fileno(), 1)
            try:
                yield
            finally:
                os.dup2(kept, 1)
                os.close(kept)


def _merge(found: dict[str, Any]) -> Merge:
    return Merge(int(found["a"]), int(found["b"]), int(found["c"]), float(found["score"]))
