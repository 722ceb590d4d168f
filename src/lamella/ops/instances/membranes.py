"""Cells parted by membranes: a watershed of the membranes' probability, for tissue without background.

Every voxel belongs to a cell. Its height is its distance to the nearest membrane, and on a membrane how little it looks like one;
each voxel climbs by steepest ascent (see ``ascent``) to the middle of its cell, so membranes are parted along their ridges. The
middles are the maxima of the distance, as in the classical seeded watershed; those of one cell, where it is wide in two places,
are merged by the height of the pass between them. A gap in a membrane is narrower than the cells beside it and makes a low pass,
so the cells stay apart, which a threshold would join.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.ops.instances.ascent import AROUND, ascend
from lamella.ops.instances.base import Maps, Method, Parts, check_maps, spacing
from lamella.ops.instances.foreground import smooth, smooth_reach
from lamella.ops.instances.watershed import distances


class Membranes(Config):
    """Instances of the map ``boundaries`` alone; no voxel is background."""

    kind: Literal["membranes"] = "membranes"
    threshold: float = Field(0.5, gt=0, lt=1)
    """A voxel lies on a membrane where its boundary probability is above this."""
    smooth: float = Field(1.0, ge=0)
    """Standard deviation, in units of the smallest voxel side, by which the map is smoothed first; 0: not at all."""
    merge: float = Field(0.5, gt=0)
    """Two maxima of the distance are one cell if the pass between them reaches this share of the lower; above 1 never."""
    slices: bool = True
    """Label every section of a volume by itself, as in serial sections; otherwise as a volume with its voxel size."""
    widest: int = Field(64, ge=1)
    """Distance, in units of the smallest voxel side, from which on places count as equally far from a membrane."""
    min_size: int = Field(0, ge=0)
    """Cells of fewer voxels are dropped and leave background."""

    def build(self) -> MembranesMethod:
        return MembranesMethod(self)


@dataclass(frozen=True)
class MembranesMethod(Method):
    """See ``Membranes``."""

    config: Membranes
    needs = ("boundaries",)

    @property
    def context(self) -> int:
        return smooth_reach(self.config.smooth) + self.config.widest + AROUND + 1

    @property
    def merge(self) -> float:
        return self.config.merge

    @property
    def floor(self) -> float:
        return 1.0  # what is nowhere off the membranes is no cell

    @property
    def min_size(self) -> int:
        return self.config.min_size

    def parts(self, maps: Maps, write: Box, read: Box, voxel_size: Sequence[float] | None = None) -> Parts:
        steps = spacing(voxel_size, len(check_maps(maps, self.needs)))
        membrane = np.asarray(maps["boundaries"], np.float32)
        flat = self.config.slices and membrane.ndim == 3
        if flat:
            steps = (1.0, *spacing(steps[1:], 2))
            height = np.stack([self._height(section, steps[1:]) for section in membrane])
        else:
            height = self._height(membrane, steps)
        return ascend(height, np.ones(height.shape, bool), write, read, steps, flat=flat)

    def _height(self, membrane: NDArray[np.float32], steps: Sequence[float]) -> NDArray[np.float32]:
        """On membranes 1 - probability, below 1; elsewhere 1 and more: the distance to a membrane, and as much again."""
        membrane = smooth(membrane, self.config.smooth, steps)
        inside = membrane <= self.config.threshold
        distance = np.minimum(distances(inside, steps), np.float32(self.config.widest))
        return np.where(inside, 1 + distance - membrane, 1 - membrane)
