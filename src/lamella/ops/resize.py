"""Resizing images by any factor, so that a part resized equals the part of the whole resized.

Pixel ``i`` of the result covers the pixels ``i / scale`` to ``(i + 1) / scale`` of the image, on its own coordinates. Values are
weighted linearly over the pixels around its middle, over more of them where the result is coarser (as ``antialias`` in other
libraries), so nothing is skipped. Weights at an edge are those of the pixels there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def scaled_range(start: int, stop: int, scale: float) -> tuple[int, int]:
    """The range that an axis becomes: only pixels that are wholly there, at least one.

    >>> scaled_range(0, 513, 0.5), scaled_range(3, 9, 2.0)
    ((0, 256), (6, 18))
    """
    first = math.ceil(start * scale - 1e-9)
    return first, max(math.floor(stop * scale + 1e-9), first + 1)


def source_range(start: int, stop: int, scale: float, bounds: tuple[int, int]) -> tuple[int, int]:
    """The pixels of the image, within its ``bounds``, that the pixels ``start`` to ``stop`` of the result depend on."""
    reach = max(1.0, 1 / scale)
    low = math.floor((start + 0.5) / scale - 0.5 - reach)
    high = math.ceil((stop - 0.5) / scale - 0.5 + reach) + 1
    return max(min(low, bounds[1] - 1), bounds[0]), min(max(high, bounds[0] + 1), bounds[1])


def weights(start: int, stop: int, scale: float, source: tuple[int, int]) -> NDArray[np.float32]:
    """How much each pixel of ``source`` adds to each pixel of the result, (result, source); rows sum to 1."""
    reach = max(1.0, 1 / scale)
    middle = (np.arange(start, stop) + 0.5) / scale - 0.5
    near = np.clip(1 - np.abs(middle[:, None] - np.arange(*source)[None]) / reach, 0, None)
    nearest = np.clip(np.rint(middle).astype(int), source[0], source[1] - 1) - source[0]
    lost = near.sum(axis=1) == 0  # beyond the last pixel by more than the reach
    near[lost, nearest[lost]] = 1
    return (near / near.sum(axis=1, keepdims=True)).astype(np.float32)


def resize(
    image: NDArray[np.floating],
    starts: Sequence[int],
    results: Sequence[tuple[int, int]],
    scales: Sequence[float],
) -> NDArray[np.float32]:
    """The ranges ``results`` of the whole image's result from ``image``, whose first pixel is ``starts``, along the last axes."""
    array = image.astype(np.float32, copy=False)
    first = image.ndim - len(scales)
    for axis, (origin, (start, stop), scale) in enumerate(zip(starts, results, scales, strict=True), first):
        if scale != 1:
            table = weights(start, stop, scale, (origin, origin + array.shape[axis]))
            array = np.moveaxis(np.tensordot(table, array, axes=(1, axis)), 0, axis)
        else:
            array = np.take(array, np.arange(start - origin, stop - origin), axis=axis)
    return np.ascontiguousarray(array, dtype=np.float32)
