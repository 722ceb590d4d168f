"""A net that gives all slices of a window, applied to volumes window by window.

```
slices          0 1 2 3 4 5 6
window of 3     1 2 1              weights: most in the middle
                  1 2 1
                    1 2 1          each slice is the weighted mean over the windows that hold it
```
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.infer.blend import Blended
from lamella.infer.op import NetOp


class WindowOp:
    """An op for (c * depth, y, x), which gives (k * depth, y, x), as one for (c, z, y, x) that gives (k, z, y, x).

    One window lies around each slice; beyond the first and the last slice these repeat, and what a window gives there is not used.
    """

    def __init__(self, op: NetOp | Blended, depth: int) -> None:
        self.op, self.depth = op, depth
        self.context = (2 * (depth // 2), *op.context)  # the windows that hold a slice, and what these see
        self.stride = (1, *op.stride)

    def identity(self) -> dict[str, Any]:
        return {**self.op.identity(), "window": self.depth}

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]:
        reach, slices = self.depth // 2, patch.shape[1]
        weights = np.minimum(np.arange(1, self.depth + 1), np.arange(self.depth, 0, -1)).astype(np.float32)
        total: NDArray[np.float32] | None = None
        mass = np.zeros(slices, np.float32)
        for middle in range(slices):
            around = np.arange(middle - reach, middle + reach + 1)
            shown = patch[:, np.clip(around, 0, slices - 1)].reshape(-1, *patch.shape[2:])
            maps = self.op(shown)
            maps = maps.reshape(-1, self.depth, *maps.shape[1:])
            total = np.zeros((len(maps), slices, *maps.shape[2:]), np.float32) if total is None else total
            there = (around >= 0) & (around < slices)
            total[:, around[there]] += weights[there, None, None] * maps[:, there]
            mass[around[there]] += weights[there]
        assert total is not None
        return total / mass[:, None, None]
