"""What can be had without a net: ridge regression of each pixel's target on filters of the input slices around it.

Filters are every slice as it is, smoothed, and its local spread, and the spread over slices. That finds where something is, and not
what: a floor that a net has to leave well below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]

_SMOOTH = (2.0, 6.0)  # sigmas in pixels
_SPREAD = (2.0, 5.0, 10.0)
_STRONG = 10.0  # weight of the penalty; features have a spread of 1
_STEP = 3  # every so many pixels are fitted


@dataclass(frozen=True)
class Ridge:
    """``weights`` (features + 1, targets) for features that were scaled by ``mean`` and ``std``."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def fit(cls, inputs: Sequence[Array], targets: Sequence[Array]) -> Ridge:
        """From stacks (slices, y, x) and their targets (targets, y, x), of which every third pixel is used."""
        rows = np.concatenate([features(stack)[::_STEP, ::_STEP].reshape(-1, count(stack)) for stack in inputs])
        wanted = np.concatenate([t[:, ::_STEP, ::_STEP].reshape(len(t), -1).T for t in targets]).astype(np.float64)
        mean, std = rows.mean(0), rows.std(0) + 1e-6
        known = np.column_stack([(rows - mean) / std, np.ones(len(rows))])
        penalty = _STRONG * np.eye(known.shape[1])
        penalty[-1, -1] = 0
        return cls(mean, std, np.linalg.solve(known.T @ known + penalty, known.T @ wanted))

    def __call__(self, stack: Array) -> Array:
        """The targets (targets, y, x) of a stack (slices, y, x)."""
        scaled = (features(stack) - self.mean) / self.std
        return np.moveaxis(scaled @ self.weights[:-1] + self.weights[-1], -1, 0).astype(np.float32)


def features(stack: Array) -> NDArray[np.float64]:
    """Filters of a stack (slices, y, x), as (y, x, features)."""
    return np.stack(list(_filtered(stack.astype(np.float64))), axis=-1)


def count(stack: Array) -> int:
    """How many features a stack has."""
    return len(stack) * (1 + len(_SMOOTH)) + len(_focus(stack)) * len(_SPREAD) + 2


def _filtered(stack: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for image in stack:
        yield image
        yield from (ndimage.gaussian_filter(image, sigma) for sigma in _SMOOTH)
    for z in _focus(stack):
        for sigma in _SPREAD:
            mean, square = (ndimage.gaussian_filter(a, sigma) for a in (stack[z], stack[z] ** 2))
            yield np.sqrt(np.maximum(square - mean**2, 0))
    through = stack.std(0)
    yield through
    yield ndimage.gaussian_filter(through, 4.0)


def _focus(stack: NDArray[np.floating]) -> list[int]:
    """Up to five slices spread over the stack."""
    return sorted({round(z) for z in np.linspace(0, len(stack) - 1, 5)})
