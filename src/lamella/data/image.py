"""One image, read window by window: from memory where it is kept, otherwise from its file.

A window is a box (z, y, x) that may reach beyond the image, where it is mirrored and nothing counts:

```
window   |-----------------|
image        |abcdef...
shown     dcb|abcdef...|        inside 0 0 0|1 1 1 ...
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.data.image_source import Part
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


class ScaledImage:
    """Windows of an image, scaled. ``planes`` are the sections to draw from; all if not given. Picklable."""

    def __init__(
        self,
        name: str,
        part: Part,
        scaling: Scaling,
        kept: Kept | None = None,
        *,
        planes: tuple[int, ...] | None = None,
        weight: float = 1.0,
    ) -> None:
        self.name, self.part, self.scaling, self.weight, self.kept_image = name, part, scaling, weight, kept
        self.planes = tuple(range(part.box.shape[0])) if planes is None else planes
        self._find()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_image"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._find()

    def _find(self) -> None:
        self._image = None if self.kept_image is None else self.kept_image.array

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.part.box.shape
        return z, y, x

    def image(self, box: Box, slices: int = 1) -> NDArray[np.float32]:
        """``box`` as (c, z, y, x), scaled. With ``slices`` the box has one section, and those around it follow each other as
        channels, (c * slices, 1, y, x); beyond the first and the last section these repeat."""
        if slices == 1:
            return self.scaling(self._gather_image(mirrored(box, self.shape)))
        reach = slices // 2
        around = np.clip(np.arange(box.start[0] - reach, box.stop[0] + reach), 0, self.shape[0] - 1)
        raw = self._gather_image([around, *mirrored(box, self.shape)[1:]])
        scaled = self.scaling(raw)
        return scaled.reshape(scaled.shape[0] * slices, 1, *scaled.shape[2:])

    def inside(self, box: Box) -> NDArray[np.float32]:
        """1 where ``box`` (z, y, x) shows the image, 0 where it is mirrored."""
        return inside(box, Box.of(self.shape))

    def _gather_image(self, indices: list[Index]) -> NDArray[Any]:
        if self._image is not None:
            return take(self._image, indices)
        box, local = spanned(indices, self.shape)
        return take(self.part.read(box), local)


def inside(box: Box, whole: Box) -> NDArray[np.float32]:
    """1 where ``box`` lies in ``whole``, 0 elsewhere."""
    found = np.zeros(box.shape, np.float32)
    found[box.intersect(whole).slices(box.start)] = 1
    return found


def mirrored(box: Box, shape: tuple[int, ...]) -> list[Index]:
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


def spanned(indices: list[Index], shape: tuple[int, ...]) -> tuple[Box, list[Index]]:
    """The smallest box that holds all indices, and the indices counted from its first voxel."""
    ends = [(i.start, i.stop) if isinstance(i, slice) else (int(i.min()), int(i.max()) + 1) for i in indices]
    local = [slice(0, b - a) if isinstance(i, slice) else i - a for i, (a, b) in zip(indices, ends, strict=True)]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends)), local


def take(array: NDArray[Any], indices: list[Index]) -> NDArray[Any]:
    """The voxels at ``indices`` of the last three axes."""
    lead = array.ndim - 3
    for axis, index in enumerate(indices):
        if isinstance(index, slice):
            array = array[(slice(None),) * (lead + axis) + (index,)]
    for axis, index in enumerate(indices):
        if not isinstance(index, slice):
            array = array.take(index, axis=lead + axis)
    return array
