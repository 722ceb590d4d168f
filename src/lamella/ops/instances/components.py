"""Connected components: every connected patch of foreground is an object.

The foreground may be opened (thin bridges go) before, and objects grown afterwards, by which networks that predict objects
without their boundary give them back their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage as ndi

from lamella.core.box import Box
from lamella.ops.instances.base import (
    SURE,
    Links,
    Maps,
    Method,
    Parts,
    Pieces,
    check_maps,
    crossings,
    first_places,
    numbered,
    spacing,
)
from lamella.ops.instances.foreground import Foreground, Fusion, foreground


class Components(Foreground):
    """Instances as connected components of the foreground (voxels that share a face)."""

    kind: Literal["components"] = "components"
    threshold: float = Field(0.5, ge=0, lt=1)
    """A voxel is foreground where its probability is above this."""
    boundaries: Fusion = "soft"
    """As in every method; ``soft`` by default, since nothing else separates objects that touch."""
    opening: int = Field(0, ge=0)
    """Radius, in units of the smallest voxel side, by which the foreground is opened before."""
    dilation: int = Field(0, ge=0)
    """Radius, in units of the smallest voxel side, by which objects are grown afterwards, up to their neighbours."""

    def build(self) -> ComponentsMethod:
        return ComponentsMethod(self)


@dataclass(frozen=True)
class ComponentsMethod(Method):
    """See ``Components``."""

    config: Components

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.config.foreground_maps

    @property
    def context(self) -> int:
        return 2 * self.config.opening + self._around

    @property
    def _around(self) -> int:
        """Voxels around a block in which components must be known."""
        return max(self.config.dilation, 1)

    @property
    def min_size(self) -> int:
        return self.config.min_size

    def parts(self, maps: Maps, write: Box, read: Box, voxel_size: Sequence[float] | None = None) -> Parts:
        steps = spacing(voxel_size, len(check_maps(maps, self.needs)))
        known = write.grow(self._around).intersect(read)
        mask = foreground(maps, self.config)
        core = _opened(mask, self.config.opening, steps)[known.slices(read.start)]
        components, count = connected(core)
        grown = _grown(components, self.config.dilation, steps)[write.slices(known.start)]
        labels, old = numbered(grown, count)
        links = Links.stack([crossings(components, old, write, known), _anchors(components, old, known, write)])
        sizes = np.bincount(labels.ravel(), minlength=len(old) + 1)[1:]
        peaks = np.zeros((len(old), write.ndim), np.int64)
        return Parts(labels, Pieces(sizes, peaks, np.zeros(len(old), np.float32)), links)


def connected(mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint32], int]:
    """Components of voxels that share a face, numbered from 1, and their number."""
    found, count = cc3d.connected_components(
        mask, connectivity=4 if mask.ndim == 2 else 6, return_N=True, out_dtype=np.uint32
    )
    return np.asarray(found, np.uint32).reshape(mask.shape), int(count)


def _ball(radius: int, spacing: Sequence[float]) -> list[tuple[int, ...]]:
    """Offsets within ``radius``, the nearest first and equally near ones in raster order."""
    reach = [range(-int(radius / s), int(radius / s) + 1) for s in spacing]
    length = {o: sum((n * s) ** 2 for n, s in zip(o, spacing, strict=True)) for o in product(*reach)}
    return sorted((o for o in length if length[o] <= radius**2), key=lambda o: (length[o], o))


def _opened(mask: NDArray[np.bool_], radius: int, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Erosion and dilation by a ball; beyond the edge of the image the foreground goes on, so that it is not eaten there."""
    if radius == 0:
        return mask
    offsets = np.array(_ball(radius, spacing))
    ball = np.zeros(2 * offsets.max(axis=0) + 1, bool)
    ball[tuple((offsets + offsets.max(axis=0)).T)] = True
    eroded = ndi.binary_erosion(mask, ball, border_value=1)
    return ndi.binary_dilation(eroded, ball)


def _grown(labels: NDArray[np.uint32], radius: int, spacing: Sequence[float]) -> NDArray[np.uint32]:
    """``labels`` with each background voxel taking the nearest label within ``radius``, the same one whatever the block."""
    if radius == 0:
        return labels
    out = labels.copy()
    for offset in _ball(radius, spacing)[1:]:
        here = tuple(slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, labels.shape, strict=True))
        there = tuple(slice(max(o, 0), n - max(-o, 0)) for o, n in zip(offset, labels.shape, strict=True))
        np.copyto(out[here], labels[there], where=out[here] == 0)
    return out


def _anchors(components: NDArray[np.uint32], old: NDArray[np.int64], known: Box, write: Box) -> Links:
    """Links of pieces that only grew into the block to a voxel of their component outside."""
    own = np.bincount(components[write.slices(known.start)].ravel(), minlength=int(components.max(initial=0)) + 1) > 0
    guests = np.flatnonzero(~own[old])
    if not len(guests):
        return Links.none(write.ndim)
    at = first_places(components, int(components.max()))[old[guests] - 1]
    return _sure(guests + 1, np.stack(np.unravel_index(at, components.shape), axis=1) + np.array(known.start))


def _sure(labels: NDArray[np.integer], voxels: NDArray[np.int64]) -> Links:
    return Links(labels.astype(np.int32), voxels, np.full(len(labels), SURE, np.float32))
