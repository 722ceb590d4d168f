"""A net of a fixed input size: whole images are resized to it, and their maps back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.infer.blend import Blended
from lamella.infer.op import NetOp
from lamella.ops.trim import TrimConfig, trim, untrim


class TrimmedOp:
    """An op for whole images (c, *space), trimmed as in training; blocks of an image make no sense to it."""

    def __init__(self, op: NetOp | Blended, method: TrimConfig) -> None:
        self.op, self.method, self.settings = op, method, op.settings
        self.context = (0,) * len(op.stride)
        self.stride = (1,) * len(op.stride)

    def identity(self) -> dict[str, Any]:
        return {**self.op.identity(), "trim": self.method.to_dict()}

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]:
        return self.many(patch[None])[0]

    def many(self, patches: NDArray[Any]) -> NDArray[np.float32]:
        """Several images of one size, (b, c, *space) to (b, k, *space)."""
        ndim, space = len(self.stride), patches.shape[2:]
        shown = patches if patches.dtype.kind == "f" else patches.astype(np.float32)
        return untrim(self.op.many(trim(shown, self.method, ndim)), self.method, space)
