"""One labelled image, read window by window: from memory where it is kept, otherwise from its file.

A window is a box (z, y, x) that may reach beyond the image, where image and labels are mirrored and nothing counts:

```
window   |-----------------|
image        |abcdef...
shown     dcb|abcdef...|        valid 0 0 0|1 1 1 ...
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lamella.core.box import Box
from lamella.data.labelled_source import Opened
from lamella.data.labelled_survey import without
from lamella.data.shared import SharedBytes
from lamella.ops.intensity import Scaling

Index = slice | NDArray[np.intp]


@dataclass(frozen=True)
class Kept:
    """An array in shared memory; None to those for whom that memory is gone."""

    memory: SharedBytes
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def array(self) -> NDArray[Any] | None:
        if self.memory.lost:
            return None
        piece = self.memory.bytes[self.offset : self.offset + self.num_bytes]
        return np.asarray(piece.view(self.dtype).reshape(self.shape))


class LabelledImage:
    """Windows of the scaled image and of its labels. Picklable."""

    def __init__(
        self,
        opened: Opened,
        scaling: Scaling,
        places: NDArray[np.int32],
        image: Kept | None = None,
        labels: Kept | None = None,
    ) -> None:
        self.opened, self.scaling, self.places = opened, scaling, places
        self.kept_image, self.kept_labels = image, labels
        self._find()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_image", "_labels")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._find()

    def _find(self) -> None:
        self._image = None if self.kept_image is None else self.kept_image.array
        self._labels = None if self.kept_labels is None else self.kept_labels.array

    @property
    def name(self) -> str:
        return self.opened.name

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.opened.shape

    @property
    def planes(self) -> tuple[int, ...]:
        return self.opened.planes

    def image(self, box: Box, slices: int = 1) -> NDArray[np.float32]:
        """``box`` as (c, z, y, x), scaled. With ``slices`` the box has one section, and those around it follow each other as
        channels, (c * slices, 1, y, x); beyond the first and the last section these repeat."""
        if slices == 1:
            return self.scaling(self._gather_image(_mirrored(box, self.shape)))
        reach = slices // 2
        around = np.clip(np.arange(box.start[0] - reach, box.stop[0] + reach), 0, self.shape[0] - 1)
        raw = self._gather_image([around, *_mirrored(box, self.shape)[1:]])
        scaled = self.scaling(raw)
        return scaled.reshape(scaled.shape[0] * slices, 1, *scaled.shape[2:])

    def labels(self, box: Box) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Labels of ``box`` (z, y, x), 0 where they are ignored, and what counts: 0 there and outside the image, else 1."""
        inner = Box((box.start[0] - self.planes[0], *box.start[1:]), (box.stop[0] - self.planes[0], *box.stop[1:]))
        shape = (len(self.planes), *self.shape[1:])
        raw = self._gather_labels(_mirrored(inner, shape))
        valid = np.zeros(box.shape, np.float32)
        valid[inner.intersect(Box.of(shape)).slices(inner.start)] = 1
        for value in self.opened.ignore:
            valid[raw == value] = 0
        return without(raw, self.opened.ignore).astype(np.int64), valid

    def _gather_image(self, indices: list[Index]) -> NDArray[Any]:
        if self._image is not None:
            return _take(self._image, indices)
        box, local = _spanned(indices, self.shape)
        return _take(self.opened.image.read(box), local)

    def _gather_labels(self, indices: list[Index]) -> NDArray[Any]:
        if self._labels is not None:
            return _take(self._labels, indices)
        box, local = _spanned(indices, (len(self.planes), *self.shape[1:]))
        return _take(read_labels(self.opened, box), local)


def read_labels(opened: Opened, box: Box) -> NDArray[Any]:
    """Labels of ``box`` (z, y, x), z counted from the first annotated section.

    Regions of a mask are numbered within the box: two parts that meet outside of it become two objects, which touch nowhere.
    """
    raw = opened.labels.read(box)[0]
    if not opened.components:
        return raw
    around = ndimage.generate_binary_structure(3, 1)  # faces connect: thin membranes part cells that touch at a corner
    around[[0, 2]] &= not opened.flat
    regions, _ = ndimage.label(without(raw, opened.ignore) > 0, around, output=np.int32)
    regions[regions > 0] += max(opened.ignore, default=0)  # no region has the number of an ignored label
    for value in opened.ignore:
        regions[raw == value] = value
    return np.asarray(regions)


def _mirrored(box: Box, shape: tuple[int, ...]) -> list[Index]:
    """What stands at each voxel of a box along each axis, mirrored at the edges without repeating the edge itself."""
    found: list[Index] = []
    for start, stop, size in zip(box.start, box.stop, shape, strict=True):
        if start >= 0 and stop <= size:
            found.append(slice(start, stop))
        else:
            period = max(2 * (size - 1), 1)
            place = np.abs(np.arange(start, stop)) % period
            found.append(np.minimum(place, period - place) if size > 1 else np.zeros(stop - start, np.intp))
    return found


def _spanned(indices: list[Index], shape: tuple[int, ...]) -> tuple[Box, list[Index]]:
    """The smallest box that holds all indices, and the indices counted from its first voxel."""
    ends = [(i.start, i.stop) if isinstance(i, slice) else (int(i.min()), int(i.max()) + 1) for i in indices]
    local = [slice(0, b - a) if isinstance(i, slice) else i - a for i, (a, b) in zip(indices, ends, strict=True)]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends)), local


def _take(array: NDArray[Any], indices: list[Index]) -> NDArray[Any]:
    """The voxels at ``indices`` of the last three axes."""
    lead = array.ndim - 3
    for axis, index in enumerate(indices):
        if isinstance(index, slice):
            array = array[(slice(None),) * (lead + axis) + (index,)]
    for axis, index in enumerate(indices):
        if not isinstance(index, slice):
            array = array.take(index, axis=lead + axis)
    return array
