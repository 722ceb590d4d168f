"""The rule by which images are cut into tiles, on disk or while training draws them.

```
|-----------------------|  axis
|ttttttttt|
     |ttttttttt|           step
              |ttttttttt|  the last tile is shifted inwards
```

The same places serve every channel. A tile is kept if enough of it is foreground. Along z a tile has ``depth`` slices, an odd number
where it stands for its middle one (2.5D), and tiles of several depths (input and target) share that middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.core.errors import UserError


class TileRule(Config):
    """Where tiles lie and which are kept."""

    size: tuple[int, int] = (256, 256)
    """Height and width in pixels."""
    step: tuple[int, int] | None = None
    """From one tile to the next, y and x; None: tiles lie side by side."""
    depth: int = Field(1, ge=1)
    """Slices of a tile."""
    step_z: int = Field(1, ge=1)
    """Slices from one tile to the next."""
    centred: bool = True
    """Whether a tile stands for its middle slice, so that its depth must be odd; otherwise it is a volume (3D)."""
    min_fraction: float = Field(0.0, ge=0, le=1)
    """Share of a tile that must be foreground, where there is a mask."""

    @field_validator("size", "step")
    @classmethod
    def _positive(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError(f"{list(value)} must be at least 1 pixel along y and x")
        return value

    def places(self, box: Box) -> Iterator[Box]:
        """The tiles of a volume ``z y x``, in the order z, y, x."""
        self.check(box)
        z, y, x = (list(self._starts(box, axis)) for axis in range(3))
        shape = (self.depth, *self.size)
        for corner in product(z, y, x):
            yield Box(corner, tuple(a + n for a, n in zip(corner, shape, strict=True)))

    def count(self, box: Box) -> int:
        """How many tiles ``places`` gives."""
        self.check(box)
        z, y, x = (len(list(self._starts(box, axis))) for axis in range(3))
        return z * y * x

    def _starts(self, box: Box, axis: int) -> Iterator[int]:
        step = (self.step_z, *(self.step or self.size))[axis]
        size = (self.depth, *self.size)[axis]
        last = box.stop[axis] - size
        yield from range(box.start[axis], last, step)
        yield last

    def check(self, box: Box) -> None:
        """Refuse a volume that no tile fits into, and an even depth where the middle slice counts."""
        if self.centred and self.depth % 2 == 0:
            raise UserError(
                f"depth {self.depth} is even, so no slice is in the middle; choose {self.depth - 1} or {self.depth + 1}, "
                "or centred false for tiles in 3D"
            )
        if box.shape[0] < self.depth:
            raise UserError(
                f"depth {self.depth} is more than the {box.shape[0]} slices of {box}; choose a smaller depth"
            )
        if any(n < s for n, s in zip(box.shape[1:], self.size, strict=True)):
            raise UserError(
                f"a tile of {self.size[0]} by {self.size[1]} px does not fit into {box.shape[1]} by {box.shape[2]}; choose a smaller one"
            )

    def keeps(self, mask: NDArray[np.bool_]) -> bool:
        """Whether a tile with this foreground is kept."""
        return bool(mask.mean() >= self.min_fraction)
