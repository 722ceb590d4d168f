"""Principal components of embeddings, to show them in colours: places that a net finds alike get like colours.

The first three components (directions of greatest variance) become red, green and blue, each stretched so that nearly all values
find room between dark and bright. Fit on a sample, then apply to any part: the same embedding has the same colour everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from lamella.core.errors import UserError

_TAILS = (1.0, 99.0)  # percentiles that become dark and bright


@dataclass(frozen=True)
class Principal:
    """``axes`` (3, c) are unit directions, most variance first; ``low`` and ``high`` (3,) what is dark and bright along them."""

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def colours(self, embeddings: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Embeddings (c, *space) as a picture (*space, 3)."""
        if embeddings.shape[0] != len(self.mean):
            raise UserError(
                f"embeddings of {embeddings.shape[0]} channels do not fit components of {len(self.mean)}; fit them anew"
            )
        centred = np.moveaxis(embeddings, 0, -1).astype(np.float64) - self.mean
        width = np.maximum(self.high - self.low, 1e-12)
        value = np.clip((centred @ self.axes.T - self.low) / width, 0, 1)
        return np.asarray(np.rint(255 * value), np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers that JSON can hold."""
        return {name: getattr(self, name).tolist() for name in ("mean", "axes", "low", "high")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Principal:
        return cls(*(np.asarray(values[name], np.float64) for name in ("mean", "axes", "low", "high")))


def principal(sample: Shaped[np.ndarray, "n c"]) -> Principal:
    """The first three components of a sample of embeddings; of fewer than three channels, the others stay dark.

    >>> bool(abs(principal(np.array([[0.0, 0], [3, 4], [6, 8]])).axes[0] @ [0.6, 0.8]) > 0.999)
    True
    """
    if not len(sample):
        raise UserError("components need at least one embedding")
    values = np.asarray(sample, np.float64)
    mean = values.mean(0)
    _, vectors = np.linalg.eigh(np.cov(values.T, bias=True).reshape(values.shape[1], values.shape[1]))
    axes = np.zeros((3, values.shape[1]))
    found = vectors.T[::-1][:3]
    axes[: len(found)] = found * np.sign(found[np.arange(len(found)), np.abs(found).argmax(1)])[:, None]
    low, high = np.percentile((values - mean) @ axes.T, _TAILS, axis=0)
    return Principal(mean, axes, low, high)
