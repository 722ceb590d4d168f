"""Tiles that overlap and are blended, for nets whose result depends on the whole of what they see.

```
image    |----------------------------------------|
tile 0   |---core---|ovl|
tile 1              |---core---|ovl|                 each begins where the core of the one before ends
weights  ▔▔▔▔▔▔▔▔▔▔▔╲╱▔▔▔▔▔▔▔▔▔▔╲╱▔▔▔▔▔              and shares the overlap with it, falling and rising linearly
```

Tiles lie on a grid that begins with the image, and blocks begin on that grid, so a block sees the very tiles of the whole: the
blended maps are equal to the bit, whatever norm the net has and however far it looks.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.infer.op import NetOp

_TILE = 256  # side of a tile in voxels where none is given


class Blended:
    """An op whose tiles overlap by ``settings.overlap`` voxels; ``settings.tile`` is a tile's side with its overlap."""

    def __init__(self, op: NetOp) -> None:
        self.settings = op.settings
        tile, wanted = self.settings.tile or _TILE, self.settings.overlap
        self.overlap = tile // 4 if wanted is None else wanted
        core = tile - self.overlap
        if core < max(op.stride) or self.overlap > core:
            raise UserError(
                f"overlap {self.overlap} leaves too little of a tile of {tile} voxels; give at most half of the tile, which "
                f"must be at least {2 * max(op.stride)}"
            )
        self.stride = tuple(core // s * s for s in op.stride)
        self.context = self.stride  # one more tile before, which reaches in, and what the last tile covers after
        self.op = op.with_settings(self.settings.model_copy(update={"tile": None, "overlap": None}))

    def identity(self) -> dict[str, Any]:
        return {**self.op.identity(), "core": list(self.stride), "overlap": self.overlap}

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]:
        return self.many(patch[None])[0]

    def many(self, patches: NDArray[Any]) -> NDArray[np.float32]:
        """Several patches of one size, (b, c, *space) to (b, k, *space)."""
        whole = Box.of(patches.shape[2:])
        total: NDArray[np.float32] | None = None
        mass = np.zeros(whole.shape, np.float32)
        for tile in self._tiles(whole):
            here: Any = (..., *tile.slices())
            maps = self.op.many(patches[here])
            weights = self._weights(tile, whole)
            total = np.zeros((*maps.shape[:2], *whole.shape), np.float32) if total is None else total
            total[here] += weights * maps
            mass[tile.slices()] += weights
        assert total is not None
        return total / mass

    def _tiles(self, whole: Box) -> list[Box]:
        """Tiles in order, cut at the end of the image; one that would only repeat the last overlap is left out."""
        starts = [range(0, max(n - self.overlap, 1), core) for n, core in zip(whole.shape, self.stride, strict=True)]
        sides = [core + self.overlap for core in self.stride]
        corners = product(*starts)
        return [Box(c, tuple(a + n for a, n in zip(c, sides, strict=True))).intersect(whole) for c in corners]

    def _weights(self, tile: Box, whole: Box) -> NDArray[np.float32]:
        """Weights of a tile, 1 but where it overlaps another."""
        weights = np.ones(tile.shape, np.float32)
        rise = (np.arange(self.overlap, dtype=np.float32) + 0.5) / max(self.overlap, 1)
        for axis, (a, b, n, core) in enumerate(zip(tile.start, tile.stop, whole.shape, self.stride, strict=True)):
            ramp = np.ones(b - a, np.float32)
            if a > 0:
                ramp[: self.overlap] = rise[: b - a]
            if a + core < n - self.overlap:
                ramp[core:] = rise[::-1][: b - a - core]
            weights *= ramp.reshape((-1,) + (1,) * (tile.ndim - axis - 1))
        return weights
