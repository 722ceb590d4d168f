"""Coarser copies of images, labels and masks.

A coarse voxel ``i`` stands for the voxels ``factor * i`` to ``factor * i + factor - 1``, counted from voxel zero of the volume; at
the edges it stands for those that exist. So coarse shapes are rounded up, and blocks of a volume give the voxels that the whole
gives, as long as they are cut at multiples of the factor:

```
fine     | 0  1 | 2  3 | 4 |     5 voxels, factor 2
coarse   |  0   |  1   | 2 |     3 voxels; the last is voxel 4 alone
```

Images are averaged; labels take the most frequent value and masks the largest, so neither gains a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.errors import UserError

Groups = Sequence[NDArray[Any]]  # the k voxels of each group: k arrays of the coarse shape


def downsample_mean(
    array: NDArray[Any], factor: Sequence[int], *, start: Sequence[int] | None = None, ignore_zero: bool = False
) -> NDArray[Any]:
    """Average groups of ``factor`` voxels (one factor per axis); the dtype, integers or floats, stays.

    Whole numbers are rounded to the nearest, halves to even, so that brightness does not drift from mip to mip. Sums are kept
    in float64, exact for integers up to 2**53. ``start`` is the coordinate of the array's first voxel (zero by default).
    ``ignore_zero`` averages over the voxels that are not 0, the value of missing data; a group of zeros alone stays 0.

    >>> downsample_mean(np.array([0, 4, 6, 8, 9], np.uint8), (2,)).tolist()
    [2, 7, 9]
    >>> downsample_mean(np.array([0, 4, 6, 8, 9], np.uint8), (2,), ignore_zero=True).tolist()
    [4, 7, 9]
    """
    if array.dtype.kind not in "uif":
        raise UserError(f"voxels of {array.dtype} cannot be averaged; give integers or floats, or treat them as labels")

    def mean(groups: Groups) -> NDArray[Any]:
        total = np.zeros(groups[0].shape)
        for voxels in groups:
            total += voxels
        if ignore_zero:
            total /= np.maximum(sum((v != 0).astype(np.uint16) for v in groups), 1)
        else:
            total /= len(groups)
        return (total if array.dtype.kind == "f" else np.rint(total)).astype(array.dtype)

    return _by_groups(array, factor, start, mean)


def downsample_mode(array: NDArray[Any], factor: Sequence[int], *, start: Sequence[int] | None = None) -> NDArray[Any]:
    """Take the most frequent value of each group of ``factor`` voxels; of several, the largest.

    The largest, so that thin objects are not lost to background 0.

    >>> downsample_mode(np.array([[7, 7, 0, 0], [7, 3, 5, 5]]), (2, 2)).tolist()
    [[7, 5]]
    """
    return _by_groups(array, factor, start, _mode)


def downsample_max(array: NDArray[Any], factor: Sequence[int], *, start: Sequence[int] | None = None) -> NDArray[Any]:
    """Take the largest value of each group of ``factor`` voxels, so that no defect of a mask is lost."""
    return _by_groups(array, factor, start, lambda groups: np.asarray(np.maximum.reduce(groups)))


def downsample_sections(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """Average sections (..., y, x) by ``factor`` in y and x over their tissue; 0 (missing) only where a whole group is missing.

    >>> downsample_sections(np.array([[10, 20], [0, 60]], np.uint8), 2).tolist()
    [[30]]
    """
    return downsample_mean(array, _in_plane(array, factor), ignore_zero=True)


def downsample_masks(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """The largest value of each group of masks (..., y, x), by ``factor`` in y and x."""
    return downsample_max(array, _in_plane(array, factor))


def _in_plane(array: NDArray[Any], factor: int) -> tuple[int, ...]:
    return (1,) * (array.ndim - 2) + (factor, factor)


def _mode(groups: Groups) -> NDArray[Any]:
    """The longest run in the sorted values of each group."""
    values = np.sort(np.stack(groups), axis=0)
    best, longest = values[0].copy(), np.ones(values.shape[1:], np.uint16)
    run = longest.copy()
    for before, value in pairwise(values):
        run = np.where(value == before, run + 1, 1).astype(np.uint16)
        wins = run >= longest
        best[wins], longest[wins] = value[wins], run[wins]
    return best


def _by_groups(
    array: NDArray[Any], factor: Sequence[int], start: Sequence[int] | None, reduce: Callable[[Groups], NDArray[Any]]
) -> NDArray[Any]:
    """Fill the coarse array, part by part; within a part all groups are of one size."""
    if len(factor) != array.ndim or min(factor) < 1:
        raise UserError(f"factors {tuple(factor)} must be at least 1, one for each of {array.ndim} axes")
    start = (0,) * array.ndim if start is None else start
    axes = [list(_parts(s, s + n, f)) for s, n, f in zip(start, array.shape, factor, strict=True)]
    result = np.empty([parts[-1][1].stop if parts else 0 for parts in axes], array.dtype)
    for part in product(*axes):
        fine, sizes = array[tuple(p[0] for p in part)], [p[2] for p in part]
        steps = [tuple(slice(o, None, k) for o, k in zip(offset, sizes, strict=True)) for offset in np.ndindex(*sizes)]
        result[tuple(p[1] for p in part)] = reduce([fine[step] for step in steps])
    return result


def _parts(start: int, stop: int, factor: int) -> Iterator[tuple[slice, slice, int]]:
    """Along one axis: the partial first group, the whole groups, the partial last; as (fine, coarse, voxels per group)."""
    low, high = start // factor, -(-stop // factor)  # the coarse voxels
    first, last = -(-start // factor), stop // factor  # those that are whole
    if low < first:
        end = min(first * factor, stop)
        yield slice(0, end - start), slice(0, 1), end - start
    if first < last:
        yield slice(first * factor - start, last * factor - start), slice(first - low, last - low), factor
    if first <= last < high:
        yield slice(last * factor - start, stop - start), slice(high - low - 1, high - low), stop - last * factor
