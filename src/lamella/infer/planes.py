"""A net for images, applied to volumes section by section."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.infer.blend import Blended
from lamella.infer.op import NetOp
from lamella.infer.trimmed import TrimmedOp


class PlaneOp:
    """An op for (c, y, x) as one for (c, z, y, x). A single image is a volume of one section.

    With ``slices`` above 1 the net sees that many neighbouring sections as channels, those of the first channel first; beyond
    the first and the last section these repeat, as in training.
    """

    def __init__(self, op: NetOp | Blended | TrimmedOp, slices: int = 1) -> None:
        self.op, self.slices = op, slices
        self.context = (slices // 2, *op.context)
        self.stride = (1, *op.stride)

    def identity(self) -> dict[str, Any]:
        return {**self.op.identity(), "slices": self.slices}

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]:
        reach, depth = self.slices // 2, patch.shape[1]
        around = np.clip(np.arange(depth)[:, None] + np.arange(-reach, reach + 1), 0, depth - 1)
        batch = self.op.settings.batch
        found = []
        for start in range(0, depth, batch):
            sections = [patch[:, near].reshape(-1, *patch.shape[2:]) for near in around[start : start + batch]]
            found.append(self.op.many(np.stack(sections)))
        return np.moveaxis(np.concatenate(found), 0, 1)
