"""A first look at all labels, before the training: where the objects are, and whether they are instances at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lamella.core.box import Box
from lamella.core.errors import UserError

_BLOCK = (64, 1024, 1024)
_DENSE = 1 << 20  # up to this value labels are used as indices without renumbering
_MOST = 0.9  # one object may have a few stray voxels; a mask of many objects has no part that is nearly all


@dataclass(frozen=True)
class Survey:
    """What labels hold. ``places`` are the middles of objects, (n, 3) as z, y, x; one cut by a block has a place in each.

    ``values`` are the first two labels met; ``regions`` and ``largest`` count the connected regions of a single label, and say
    what share of it the largest is.
    """

    places: NDArray[np.int32]
    values: tuple[int, ...]
    regions: int = 1
    largest: float = 1.0

    @property
    def is_one_value(self) -> bool:
        return len(self.values) == 1 and self.regions > 1

    @property
    def is_mask(self) -> bool:
        """Whether this can hardly be one object."""
        return self.is_one_value and self.largest < _MOST


def survey(read: Callable[[Box], NDArray[Any]], blocks: Iterable[Box], ignore: Sequence[int]) -> Survey:
    """Look at labels (z, y, x), read block by block."""
    places: list[NDArray[np.int32]] = []
    values: set[int] = set()
    counts: list[tuple[int, float]] = []
    for block in blocks:
        labels = read(block)
        if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
            raise UserError(
                f"the labels go down to {labels.min()}; they must be 0 for background and whole numbers above it"
            )
        labels = without(labels, ignore)
        ids, found = _places(labels)
        places.append(found + np.asarray(block.start, np.int32))
        values |= set(ids[: 2 - len(values)].tolist()) if len(values) < 2 else set()
        if len(ids) == 1:
            counts.append(_regions(labels > 0))
    most, largest = max(counts, default=(1, 1.0))
    return Survey(np.concatenate(places), tuple(sorted(values)), most, largest)


def without(labels: NDArray[Any], ignore: Sequence[int]) -> NDArray[Any]:
    """Labels with those of ``ignore`` set to 0."""
    if labels.dtype.kind == "b":
        labels = labels.view(np.uint8)
    for value in ignore:
        hit = labels == value
        labels = np.where(hit, labels.dtype.type(0), labels) if hit.any() else labels
    return labels


def survey_blocks(shape: Sequence[int], *, by_plane: bool) -> list[Box]:
    """Blocks that cover labels of ``shape`` (z, y, x), of one section each if objects are counted ``by_plane``."""
    size = (1 if by_plane else _BLOCK[0], *_BLOCK[1:])
    corners = product(*(range(0, n, s) for n, s in zip(shape, size, strict=True)))
    return [Box(c, tuple(min(a + s, n) for a, s, n in zip(c, size, shape, strict=True))) for c in corners]


def _places(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The labels there are, and the middle of each one's bounding box."""
    top = int(labels.max(initial=0))
    if top == 0:
        return np.zeros(0, np.int64), np.zeros((0, labels.ndim), np.int32)
    if top > _DENSE:
        ids, dense = np.unique(labels, return_inverse=True)
        first = 1 if ids[0] == 0 else 0
        ids, labels = ids[first:], dense.reshape(labels.shape) + (1 - first)
    boxes = ndimage.find_objects(labels.astype(np.int32, copy=False))
    there = [k for k, box in enumerate(boxes) if box is not None]
    middles = [[(s.start + s.stop - 1) // 2 for s in boxes[k]] for k in there]
    numbers = ids[there] if top > _DENSE else np.asarray(there) + 1
    return numbers, np.asarray(middles, np.int32).reshape(-1, labels.ndim)


def _regions(mask: NDArray[np.bool_]) -> tuple[int, float]:
    """How many regions that faces connect a mask has, and the share of the largest."""
    regions, num = ndimage.label(mask)
    return num, float(np.bincount(regions.ravel())[1:].max() / np.count_nonzero(mask))
