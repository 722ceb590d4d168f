"""From probabilities of defects to what is inside one: pooled, thresholded kind by kind, and rid of specks.

    inside = components of (mean(max(probability)) > threshold of its kind, or missing data) of at least ``min_size`` pixels

as in the detector of SEAMLeSS, but for its 8-connected components, which here share a side: after pooling, what touches at a
corner only is rare. Components are followed across blocks, so that those of a section cut into blocks are those of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import ndimage as ndi

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.ops.instances import Components, Method, Parts

MISSING = "missing"  # the map that is 1 where a section has no data
_SET = "objects"  # what components call the map they are made of


class MaskConfig(Config):
    """How masks are made of a detector's maps. Distances and sizes are in pixels of the mip that it works at."""

    crack: float = Field(0.7, ge=0, le=1, description="probability above which a pixel lies in a crack")
    fold: float = Field(0.6, ge=0, le=1, description="probability above which a pixel lies on a fold")
    cover: float = Field(0.7, ge=0, le=1, description="probability above which a pixel is covered or bare")
    max_pool: int = Field(3, ge=1, description="side of the square whose highest probability a pixel gets first, odd")
    mean_pool: int = Field(3, ge=1, description="side of the square over which these are averaged then, odd")
    min_size: int = Field(200, ge=0, description="pixels below which a connected defect is dropped")
    near: int = Field(20, ge=0, description="pixels around a defect that are marked 1")
    missing: bool = Field(True, description="missing data (0) are inside too; otherwise they are normal")

    @model_validator(mode="after")
    def _check(self) -> MaskConfig:
        for name, side in (("max_pool", self.max_pool), ("mean_pool", self.mean_pool)):
            if side % 2 == 0:
                raise ValueError(f"{name} {side} has no middle pixel; give {side + 1}")
        return self

    def build(self, kinds: Sequence[str]) -> DefectMethod:
        """The method for maps of these kinds."""
        return DefectMethod(self, tuple(kinds))


@dataclass(frozen=True)
class DefectMethod(Method):
    """See the module. Its objects are the connected defects that are large enough."""

    config: MaskConfig
    kinds: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.kinds, MISSING)

    @property
    def context(self) -> int:
        return self.config.max_pool // 2 + self.config.mean_pool // 2 + self._components.context

    @property
    def min_size(self) -> int:
        return self.config.min_size

    def parts(
        self, maps: Mapping[str, NDArray[np.float32]], write: Box, read: Box, voxel_size: Sequence[float] | None = None
    ) -> Parts:
        inside = self.inside(maps).astype(np.float32)
        return self._components.parts({_SET: inside}, write, read, voxel_size)

    def inside(self, maps: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
        """Where a section (y, x) has a defect of any kind, specks included."""
        found = maps[MISSING] > 0.5 if self.config.missing else np.zeros(maps[MISSING].shape, bool)
        for kind in self.kinds:
            found = found | self.inside_of(kind, maps[kind])
        return found

    def inside_of(self, kind: str, probability: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where a section (y, x) has a defect of one kind."""
        highest = ndi.maximum_filter(probability, self.config.max_pool, mode="nearest")
        found: NDArray[np.bool_] = _mean(highest, self.config.mean_pool) > getattr(self.config, kind)
        return found

    @property
    def _components(self) -> Method:
        return Components(threshold=0.5, boundaries="none", min_size=self.config.min_size).build()


def _mean(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The mean of a square; sums do not run along, so that a pixel's is the same whatever lies further off."""
    for axis in range(values.ndim):
        values = ndi.convolve1d(values, np.full(side, 1 / side), axis, mode="nearest")
    return values
