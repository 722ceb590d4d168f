"""Arrays that lie in one piece in a file, as in an uncompressed TIFF or HDF5 stack.

The file has its full length from the start, so blocks can be written in any order, by several threads and processes; a kill
leaves the file readable and a rerun gives the same bytes.
"""

from __future__ import annotations

import os
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box


def read_flat(file: str | os.PathLike[str], offset: int, shape: tuple[int, ...], dtype: Any, box: Box) -> NDArray[Any]:
    """The voxels of ``box`` (from the array's first voxel), reading no more of the file than they need."""
    mapped = np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)
    return np.array(mapped[box.slices()])


def write_flat(
    file: str | os.PathLike[str], offset: int, shape: tuple[int, ...], dtype: Any, box: Box, array: NDArray[Any]
) -> None:
    """Write ``box`` and wait until the disk has it. Plain writes, since a full disk kills a process that writes to a map."""
    stored = np.ascontiguousarray(array, dtype=dtype)
    joined = _contiguous_axes(shape, box)
    lead = box.ndim - joined
    strides = np.cumprod((1, *shape[:0:-1]))[::-1] * stored.itemsize
    handle = os.open(file, os.O_WRONLY)
    try:
        for index in product(*(range(n) for n in box.shape[:lead])):
            at = [a + i for a, i in zip(box.start, index, strict=False)] + list(box.start[lead:])
            _write_all(handle, memoryview(stored[index]).cast("B"), offset + int(np.dot(at, strides)))
        os.fsync(handle)
    finally:
        os.close(handle)


def _contiguous_axes(shape: tuple[int, ...], box: Box) -> int:
    """How many trailing axes of the box are one run of bytes: those it fills, and the one before them."""
    count = 1
    while count < box.ndim and box.shape[-count] == shape[-count]:
        count += 1
    return count


def _write_all(handle: int, data: memoryview, position: int) -> None:
    while len(data):
        written = os.pwrite(handle, data, position)
        data, position = data[written:], position + written
