"""What a net learns from labelled cells: objects, boundaries and distances, from instance labels.

Labels are whole numbers ``(*space)``, space ``z y x`` or ``y x``: 0 is background, each other number one cell. All targets rest on
the **edges**: voxels that share a face with a voxel of another label. An edge is only where both voxels are known: at the end of
the array, and where ``known`` is False (outside the image, regions that nobody could annotate), nothing is said to end.

```
labels       0 0 3 3 3 3 3 5 5 0        labels of a row
edges        . # # . . . # # # #        thickness 2: one voxel on either side
distance     0 0 ⅓ ⅔ 1 ⅔ ⅓ 1 1 0        steps into the cell, over the most steps that this cell has
```

Laws: a boundary has ``thickness`` voxels across a straight edge; a distance is 0 outside cells, above 0 in every cell and 1
somewhere in each; turning or flipping the labels turns or flips the targets, and renumbering cells changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import edt
import fastremap
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lamella.core.errors import UserError

Labels = NDArray[Any]
Known = NDArray[np.bool_]

_EMPHASIS = (0.5, 4.0)


def objects(labels: Labels) -> NDArray[np.bool_]:
    """Where there is a cell."""
    return labels > 0


def edges(labels: Labels, known: Known | None = None, *, touching_only: bool = False) -> NDArray[np.bool_]:
    """Voxels that share a face with a known voxel of another label, themselves known.

    touching_only: only where both are cells; edges between a cell and the background do not count.
    """
    found = np.zeros(labels.shape, np.bool_)
    for axis in range(labels.ndim):
        low, high = _halves(labels.ndim, axis)
        differ = labels[low] != labels[high]
        if known is not None:
            differ &= known[low] & known[high]
        if touching_only:
            differ &= (labels[low] > 0) & (labels[high] > 0)
        found[low] |= differ
        found[high] |= differ
    return found


def boundaries(
    labels: Labels,
    thickness: int = 2,
    touching_only: bool = False,
    voxel_size: Sequence[float] | None = None,
    known: Known | None = None,
) -> NDArray[np.bool_]:
    """The edges, ``thickness`` voxels wide in all: half on either side.

    thickness: even, at least 2. With a ``voxel_size`` it counts voxels of the finest axis; across a coarser axis the boundary
    keeps at least the two voxels that meet.
    """
    if thickness < 2 or thickness % 2:
        raise UserError(
            f"boundary thickness {thickness} must be an even number of voxels from 2; half lies on either side"
        )
    found = edges(labels, known, touching_only=touching_only)
    if thickness == 2 or not found.any():
        return found
    return np.asarray(_to(found, voxel_size) <= thickness / 2 - 1)


def distance(
    labels: Labels, voxel_size: Sequence[float] | None = None, known: Known | None = None
) -> NDArray[np.float32]:
    """How deep inside its cell a voxel lies: its distance to the outside over the largest such distance in the cell.

    Small and large cells thus rise to the same height, and cells that touch are parted by a valley. A cell that the array cuts
    off is measured by what is seen of it. As in the distance maps of StarDist and of Bai and Urtasun's deep watershed, but
    relative to the cell's own depth.
    """
    found = edges(labels, known)
    inside = labels > 0
    if not found.any():
        return inside.astype(np.float32)
    depth = np.where(inside, _to(found, voxel_size) + 1, 0)
    index, cells = fastremap.renumber(labels, in_place=False)
    deepest = np.ones(len(cells) + 1, np.float32)
    np.maximum.at(deepest, index.ravel(), depth.ravel())
    return np.asarray(depth / deepest[index], np.float32)


def emphasis(labels: Labels, power: float, usual: float) -> NDArray[np.float32]:
    """How much a voxel shall count, so that small cells are learnt as large ones are: (usual / size of its cell) ** power.

    usual: size in voxels of a cell whose voxels count 1, as background does. Weights stay between a half and 4. Background within
    two voxels of cells counts as the heaviest of these does, since it is what parts them. A cell that the array cuts off is as
    large as what is seen of it.
    """
    index, cells = fastremap.renumber(labels, in_place=False)
    sizes = np.bincount(index.ravel(), minlength=len(cells) + 1)
    weights = np.clip((usual / np.maximum(sizes, 1)) ** power, *_EMPHASIS).astype(np.float32)
    weights[0] = 1
    inside = weights[index]
    around = ndi.maximum_filter(np.where(labels > 0, inside, 0), size=5)
    return np.asarray(np.where((labels == 0) & (around > 0), around, inside), np.float32)


def _halves(ndim: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """All voxels but the last along ``axis``, and all but the first."""
    everything = [slice(None)] * ndim
    low, high = everything.copy(), everything.copy()
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def _to(found: NDArray[np.bool_], voxel_size: Sequence[float] | None) -> NDArray[np.float32]:
    """Distance of every voxel to the nearest that was found, in voxels of the finest axis."""
    size = np.asarray(voxel_size if voxel_size is not None else (1.0,) * found.ndim, np.float64)
    anisotropy = tuple(float(s) for s in size / size.min())
    return np.asarray(edt.edt(~found, anisotropy=anisotropy, black_border=False, parallel=1))
