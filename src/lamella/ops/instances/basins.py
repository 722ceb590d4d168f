"""Basins of a predicted distance map: every foreground voxel climbs to the middle of its object.

The network predicts for each voxel a distance to the object's edge that is 1 in the object's middle, whatever its size. From each
voxel one climbs by steepest ascent; all that reach one maximum are a basin. Noise makes shallow extra maxima, which are merged
across high passes (``merge``), the persistence of topology: two maxima are one object if the best way from one to the other never
falls below a share of the lower of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from lamella.core.box import Box
from lamella.ops.instances.ascent import AROUND, ascend
from lamella.ops.instances.base import Maps, Method, Parts, check_maps, spacing
from lamella.ops.instances.foreground import Foreground, foreground, smooth, smooth_reach

_AROUND = (
    16  # voxels around a block in which paths are followed before they become links; saves links, changes no result
)


class Basins(Foreground):
    """Instances by steepest ascent of the map ``distance``, lowered at ``boundaries`` if asked for, within the foreground."""

    kind: Literal["basins"] = "basins"
    smooth: float = Field(1.0, ge=0)
    """Standard deviation, in units of the smallest voxel side, by which the distance map is smoothed first; 0: not at all."""
    valleys: float = Field(0.0, ge=0)
    """How much the map ``boundaries`` lowers the heights beside ``distance``: (distance + valleys · (1 - boundaries)) / (1 + valleys)."""
    merge: float = Field(0.7, gt=0)
    """Two maxima are one object if the pass between them reaches this share of the lower; above 1 never."""

    def build(self) -> BasinsMethod:
        return BasinsMethod(self)


@dataclass(frozen=True)
class BasinsMethod(Method):
    """See ``Basins``."""

    config: Basins

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        used = (*self.config.foreground_maps, "distance", *(("boundaries",) if self.config.valleys else ()))
        return tuple(dict.fromkeys(used))

    @property
    def context(self) -> int:
        return smooth_reach(self.config.smooth) + AROUND + 1

    @property
    def merge(self) -> float:
        return self.config.merge

    @property
    def min_size(self) -> int:
        return self.config.min_size

    def parts(self, maps: Maps, write: Box, read: Box, voxel_size: Sequence[float] | None = None) -> Parts:
        steps = spacing(voxel_size, len(check_maps(maps, self.needs)))
        height = np.asarray(maps["distance"], np.float32)
        if self.config.valleys:
            share = self.config.valleys / (1 + self.config.valleys)
            height = np.asarray((1 - share) * height + share * (1 - maps["boundaries"]), np.float32)
        height = smooth(height, self.config.smooth, steps)
        return ascend(height, foreground(maps, self.config), write, read, steps)
