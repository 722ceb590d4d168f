"""Sections that were resampled, in the type that they are stored in. 0 is missing data, so tissue never becomes 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_tissue(values: NDArray[np.floating], present: NDArray[np.bool_], dtype: np.dtype[Any]) -> NDArray[Any]:
    """``values`` rounded to ``dtype`` and kept in its range, 0 where they are not ``present`` and nowhere else.

    >>> as_tissue(np.array([0.2, 7.6, 300.0]), np.array([True, False, True]), np.dtype("uint8")).tolist()
    [1, 0, 255]
    """
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values, least = np.clip(np.rint(values), limits.min, limits.max), 1.0
    else:
        least = float(np.finfo(dtype).tiny)
    values = np.where(np.abs(values) < least, least, values)
    return np.where(present, values, 0).astype(dtype)
