"""A fair sample of the voxels of a volume, the same in training and in inference, to measure its intensities."""

from __future__ import annotations

from itertools import product
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Volume

LIMIT = 1 << 24  # voxels per channel: whole images up to 4096²; percentiles of so many are exact for any purpose
_PIECE = 256


def sample_voxels(volume: Volume, box: Box | None = None, limit: int = LIMIT) -> NDArray[Any]:
    """Voxels of ``box`` (all of ``volume`` by default) as (c, n), one row without an axis c.

    All of them if they are at most ``limit`` per channel, in array order; otherwise pieces on a regular grid that spans the box.
    """
    box = volume.box if box is None else box
    channel = volume.meta.axes.index("c") if "c" in volume.meta.axes else None
    pieces = [_rows(volume.read(piece), channel) for piece in _pieces(box, channel, limit)]
    return np.concatenate(pieces, axis=1)


def _rows(array: NDArray[Any], channel: int | None) -> NDArray[Any]:
    if channel is None:
        return array.reshape(1, -1)
    return np.moveaxis(array, channel, 0).reshape(array.shape[channel], -1)


def _pieces(box: Box, channel: int | None, limit: int) -> list[Box]:
    sizes = [n for axis, n in enumerate(box.shape) if axis != channel]
    if prod(sizes) <= limit:
        return [box]
    shape = [
        n if axis == channel else min(n, _PIECE if axis >= box.ndim - 2 else 1) for axis, n in enumerate(box.shape)
    ]
    wanted = limit // prod(n for axis, n in enumerate(shape) if axis != channel)
    starts = [
        _spread(n, s, count) for n, s, count in zip(box.shape, shape, _counts(box.shape, shape, wanted), strict=True)
    ]
    corners = product(*starts)
    return [Box(c, tuple(a + n for a, n in zip(c, shape, strict=True))).shift(box.start) for c in corners]


def _counts(size: tuple[int, ...], piece: list[int], wanted: int) -> list[int]:
    """How many pieces along each axis, about ``wanted`` in all, as evenly spaced as the axes allow."""
    room = [ceil(n / p) for n, p in zip(size, piece, strict=True)]
    counts = [1] * len(size)
    while True:
        growing = [k for k in range(len(size)) if counts[k] < room[k]]
        if not growing:
            return counts
        axis = max(growing, key=lambda k: room[k] / counts[k])
        if prod(counts) // counts[axis] * (counts[axis] + 1) > wanted:
            return counts
        counts[axis] += 1


def _spread(size: int, piece: int, count: int) -> list[int]:
    """Starts of ``count`` pieces from one end of an axis to the other; in the middle if there is one."""
    last = size - piece
    return [last // 2] if count == 1 else [round(last * k / (count - 1)) for k in range(count)]
