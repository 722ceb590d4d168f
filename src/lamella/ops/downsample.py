"""Downsampling of sections by whole factors in y and x; z and any axis before it stay.

Output voxel ``i`` covers the input voxels ``factor * i`` up to ``factor * i + factor - 1``; where the size is no multiple of the
factor, the last output voxel covers what is left. A block that starts at a multiple of the factor gives the same voxels as the
whole would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.errors import UserError


def downsample_sections(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """Mean of the tissue in each cell, in the input's dtype; 0 (missing) only where the whole cell is missing.

    Array (..., y, x) of integers or floats. Integers are rounded to the nearest, which is never 0 for tissue; leaving the missing
    voxels out keeps the borders of lost data from turning dark.

    >>> downsample_sections(np.array([[10, 20], [0, 60]], np.uint8), 2)
    array([[30]], dtype=uint8)
    """
    if array.dtype.kind not in "uif":
        raise UserError(f"sections of {array.dtype} cannot be averaged; give integers or floats")
    cells = _cells(array, factor)
    counts = np.maximum(np.count_nonzero(cells, axis=(-3, -1)), 1)
    mean = cells.sum(axis=(-3, -1), dtype=np.float64) / counts
    return (mean if array.dtype.kind == "f" else np.rint(mean)).astype(array.dtype)


def downsample_masks(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """The largest value in each cell, so that no defect is lost; array (..., y, x) of values from 0 up."""
    return np.asarray(_cells(array, factor).max(axis=(-3, -1)))


def _cells(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """(..., y, x) as (..., y cell, y in cell, x cell, x in cell), filled up with zeros."""
    if factor < 1:
        raise UserError(f"factor {factor} must be at least 1")
    *rest, height, width = array.shape
    pad = [(0, 0)] * len(rest) + [(0, -height % factor), (0, -width % factor)]
    full = np.pad(array, pad) if any(p for _, p in pad) else array
    return full.reshape(*rest, full.shape[-2] // factor, factor, full.shape[-1] // factor, factor)
