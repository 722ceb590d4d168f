"""Affinities: whether two voxels belong to one object.

An *offset* is a step in voxels, an entry per axis, ``(z) y x``. The affinity at voxel ``v`` for offset ``o`` is that of the pair
``v`` and ``v + o``, and is stored at ``v``: with the nearest offsets, which point backwards, the affinity at ``v`` tells whether
``v`` and the voxel before it are one. A pair one of whose ends is background has the affinity 0, so an object's edge is where its
affinities end; a pair that reaches out of the image has no affinity, and is not ``valid``.

(Turaga et al., 2010, Convolutional networks can learn to generate affinity graphs for image segmentation.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.errors import UserError

Offsets = tuple[tuple[int, ...], ...]


def nearest(ndim: int) -> Offsets:
    """The offsets to the voxel before along each axis.

    >>> nearest(2)
    ((-1, 0), (0, -1))
    """
    return tuple(tuple(-1 if a == b else 0 for b in range(ndim)) for a in range(ndim))


def affinities(
    labels: NDArray[np.integer[Any]], offsets: Sequence[Sequence[int]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The affinities (n, *space) of labels (*space) for n ``offsets``, and which are ``valid`` (n, *space).

    An affinity holds if both voxels have the same label above 0.

    >>> found, valid = affinities(np.array([[1, 1, 2, 0, 0]]), [(0, -1)])
    >>> found.astype(int), valid.astype(int)
    (array([[[0, 1, 0, 0, 0]]]), array([[[0, 1, 1, 1, 1]]]))
    """
    steps = check_offsets(offsets, labels.ndim)
    found = np.zeros((len(steps), *labels.shape), bool)
    valid = np.zeros_like(found)
    for n, step in enumerate(steps):
        here, there = pairs(labels.shape, step)
        found[n][here] = (labels[here] == labels[there]) & (labels[here] > 0)
        valid[n][here] = True
    return found, valid


def nearest_affinities(found: NDArray[Any], offsets: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Of affinities (n, *space), those to the voxel before along each axis, (ndim, *space), cut to 0 to 1.

    Where that voxel is outside the image, the pair after stands in. Raises UserError if the offsets lack a nearest neighbour; the
    voxel after serves as well as the one before.
    """
    steps = check_offsets(offsets, found.ndim - 1)
    if len(steps) != len(found):
        raise UserError(
            f"there are {len(found)} affinities for {len(steps)} offsets {[list(s) for s in steps]}; give one each"
        )
    near = np.empty((found.ndim - 1, *found.shape[1:]), np.float32)
    for axis, before in enumerate(nearest(found.ndim - 1)):
        after = tuple(-s for s in before)
        if before not in steps and after not in steps:
            raise UserError(
                f"fragments need the affinities of nearest neighbours, and {list(before)} is not among the offsets "
                f"{[list(s) for s in steps]}; train with it, or choose mutex"
            )
        values = found[steps.index(before if before in steps else after)]
        near[axis] = np.roll(values, 0 if before in steps else 1, axis)
        first = np.moveaxis(near[axis], axis, 0)
        first[0] = first[min(1, len(first) - 1)]
    return near.clip(0, 1, out=near)


def boundary_map(near: NDArray[np.float32], *, flat: bool = False) -> NDArray[np.float32]:
    """1 - the mean of the nearest affinities (ndim, *space), in ``flat`` sections of those along y and x only: (*space)."""
    return 1 - near[1 if flat and len(near) == 3 else 0 :].mean(axis=0)


def pairs(shape: Sequence[int], offset: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Of all voxels ``v`` whose ``v + offset`` is in the image too: the slices of ``v``, and of ``v + offset``.

    >>> pairs((4,), (-1,))
    ((slice(1, 4, None),), (slice(0, 3, None),))
    """
    sizes = list(zip(shape, offset, strict=True))
    here = tuple(slice(min(max(-o, 0), n), max(n - max(o, 0), 0)) for n, o in sizes)
    there = tuple(slice(min(max(o, 0), n), max(n - max(-o, 0), 0)) for n, o in sizes)
    return here, there


def check_offsets(offsets: Sequence[Sequence[int]], ndim: int) -> Offsets:
    """``offsets`` as tuples; a UserError if there is none, or one has another number of axes, is zero or occurs twice."""
    steps = tuple(tuple(int(s) for s in offset) for offset in offsets)
    example = [list(o) for o in nearest(ndim)]
    if not steps:
        raise UserError(f"affinities need offsets, one at least; the nearest neighbours are {example}")
    for n, step in enumerate(steps):
        if len(step) != ndim:
            axes = "z y x" if ndim == 3 else "y x"
            raise UserError(f"offset {list(step)} must have {ndim} entries, {axes}, for example {example[0]}")
        if not any(step):
            raise UserError(f"offset {list(step)} compares each voxel with itself; leave it out")
        if step in steps[:n]:
            raise UserError(f"offset {list(step)} is given twice; leave one out")
    return steps
