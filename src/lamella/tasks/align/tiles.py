"""Tiles of a section: where each field is estimated, and how overlapping fields become one without seams.

```
|--------- section -----------|
|---core---|---core---|--core-|
|---core-----|                    tile 0 = its core and the overlap with its neighbours
        |-----core-----|          tile 1
```

Where tiles overlap, their fields are averaged with weights that fall linearly from 1 to 0 across the middle of the overlap, so
the blended field is as smooth as the tiles'. The outer half of what a tile reaches into its neighbour has no weight: there the
net lacks context, and what is to be found there may lie outside the tile. Such errors would add up from section to section.
Everything here is on the fields' own grid, in coarse pixels from the section's corner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Tiling:
    """Tiles of a section of ``shape``: cores of ``core`` pixels on a grid, each grown by ``overlap`` and cut at the edges."""

    shape: tuple[int, int]
    core: int
    overlap: int

    @property
    def counts(self) -> tuple[int, int]:
        return (-(-self.shape[0] // self.core), -(-self.shape[1] // self.core))

    @property
    def largest(self) -> int:
        """Side of the largest tile."""
        return self.core + 2 * self.overlap

    def __len__(self) -> int:
        return self.counts[0] * self.counts[1]

    def tile(self, index: int) -> Box:
        """The tile with its overlaps."""
        y, x = divmod(index, self.counts[1])
        core = Box((y * self.core, x * self.core), ((y + 1) * self.core, (x + 1) * self.core))
        return core.grow(self.overlap).intersect(Box.of(self.shape))

    def touching(self, box: Box) -> list[int]:
        """Tiles that hold a pixel of ``box``."""
        spans = [
            range(max(0, (a - self.overlap) // self.core), min(n, -(-(b + self.overlap) // self.core)))
            for a, b, n in zip(box.start, box.stop, self.counts, strict=True)
        ]
        candidates = [y * self.counts[1] + x for y in spans[0] for x in spans[1]]
        return [i for i in candidates if not self.tile(i).intersect(box).is_empty]

    def blend(self, box: Box, read: Callable[[int], Field], channels: int = 2) -> Field:
        """The blended field (2, y, x) of ``box``; ``read(index)`` gives a whole tile's field. Other maps have other ``channels``."""
        total = np.zeros((channels, *box.shape), np.float32)
        mass = np.zeros(box.shape, np.float32)
        for index in self.touching(box):
            tile = self.tile(index)
            common = tile.intersect(box)
            weights = self._weights(tile)[common.slices(tile.start)]
            here = common.slices(box.start)
            total[:, *here] += weights * read(index)[:, *common.slices(tile.start)]
            mass[here] += weights
        return total / mass

    def _weights(self, tile: Box) -> NDArray[np.float32]:
        ramps = []
        edge = self.overlap // 2
        width = np.float32(2 * (self.overlap - edge) + 1)
        for a, b, n in zip(tile.start, tile.stop, self.shape, strict=True):
            at = np.arange(a, b, dtype=np.float32) + 0.5
            rise = np.ones_like(at) if a == 0 else np.clip((at - a - edge) / width, 0, 1)
            fall = np.ones_like(at) if b == n else np.clip((b - edge - at) / width, 0, 1)
            ramps.append(np.minimum(rise, fall))
        return ramps[0][:, None] * ramps[1][None]
