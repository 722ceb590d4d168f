"""Views: volumes computed from others while they are read. The same code serves training and inference.

A view has the coordinates of the volume below it, is picklable if that is, and cannot be written.

- ``crop``: a smaller box; everything outside does not exist.
- ``expanded``: with axes of length one that the volume lacks, so that ``z y x`` can be stored as ``t c z y x``.
- ``nonzero``: 1 where the volume is not 0, as uint8; labels as a mask.
- ``normalised``: each section through a normaliser. One that looks ``context`` pixels far gets the tile with that margin, so memory
  stays that of the tile; one that needs the whole section gets it, and the sections used last are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io.base import check_box
from lamella.io.recent import LIMIT_BYTES, Recent


@runtime_checkable
class SectionNormaliser(Protocol):
    """One section (y, x) to float32 in [0, 1]; see ``lamella.ops.normalise``."""

    def context(self, dtype: DTypeLike) -> int | None: ...

    def __call__(self, section: NDArray[Any]) -> NDArray[np.float32]: ...


class View(ABC):
    """A volume that reads through ``source``."""

    def __init__(self, source: Volume) -> None:
        self.source = source

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def box(self) -> Box:
        return self.source.box

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def chunk(self) -> tuple[int, ...]:
        return self.source.chunk

    @property
    def meta(self) -> Meta:
        return self.source.meta

    @abstractmethod
    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of ``box``, worked out from those of ``source``."""

    def write(self, box: Box, array: NDArray[Any]) -> None:
        raise UserError(f"a view of {self.path} cannot be written; open the volume itself with writable=True")


class Crop(View):
    """See ``crop``."""

    def __init__(self, source: Volume, box: Box) -> None:
        super().__init__(source)
        self._box = box

    @property
    def box(self) -> Box:
        return self._box

    def read(self, box: Box) -> NDArray[Any]:
        check_box(self, box)
        return self.source.read(box)


class Expanded(View):
    """See ``expanded``."""

    def __init__(self, source: Volume, axes: tuple[str, ...], places: Mapping[str, int]) -> None:
        super().__init__(source)
        self.axes, self.places = axes, dict(places)
        self._kept = [axes.index(a) for a in source.meta.axes]

    def _fill(self, values: Sequence[Any], others: Sequence[Any]) -> tuple[Any, ...]:
        told = dict(zip(self._kept, values, strict=True))
        return tuple(told.get(i, other) for i, other in enumerate(others))

    @property
    def box(self) -> Box:
        box, at = self.source.box, [self.places.get(a, 0) for a in self.axes]
        return Box(self._fill(box.start, at), self._fill(box.stop, [n + 1 for n in at]))

    @property
    def chunk(self) -> tuple[int, ...]:
        return self._fill(self.source.chunk, [1] * len(self.axes))

    @property
    def meta(self) -> Meta:
        meta, n = self.source.meta, len(self.axes)
        moved = self._fill(meta.translation, [0.0] * n) if meta.translation else ()
        sizes, units = self._fill(meta.voxel_size, [1.0] * n), self._fill(meta.units, [""] * n)
        return replace(meta, axes=self.axes, voxel_size=sizes, units=units, translation=moved)

    def read(self, box: Box) -> NDArray[Any]:
        check_box(self, box)
        inner = Box(tuple(box.start[i] for i in self._kept), tuple(box.stop[i] for i in self._kept))
        if box.is_empty:
            return np.zeros(box.shape, self.dtype)
        return self.source.read(inner).reshape(box.shape)


class Nonzero(View):
    """See ``nonzero``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def read(self, box: Box) -> NDArray[np.uint8]:
        return (self.source.read(box) != 0).astype(np.uint8)


class Normalised(View):
    """See ``normalised``."""

    def __init__(self, source: Volume, normaliser: SectionNormaliser, keep_bytes: int = LIMIT_BYTES) -> None:
        super().__init__(source)
        self.normaliser = normaliser
        self.context = normaliser.context(source.dtype)
        self.recent = Recent(keep_bytes)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def read(self, box: Box) -> NDArray[Any]:
        check_box(self, box)
        result = np.zeros(box.shape, np.float32)
        if box.is_empty:
            return result
        for index in np.ndindex(box.shape[:-2]):
            lead = tuple(a + i for a, i in zip(box.start, index, strict=False))
            tile = Box(box.start[-2:], box.stop[-2:])
            result[index] = self._whole(lead, tile) if self.context is None else self._tile(lead, tile, self.context)
        return result

    def _whole(self, lead: tuple[int, ...], tile: Box) -> NDArray[np.float32]:
        plane = self._plane()
        section = self.recent.get(lead, lambda: self.normaliser(self._section(lead, plane)))
        return section[tile.slices(plane.start)]

    def _tile(self, lead: tuple[int, ...], tile: Box, context: int) -> NDArray[np.float32]:
        around = tile.grow(context).intersect(self._plane())
        return self.normaliser(self._section(lead, around))[tile.slices(around.start)]

    def _plane(self) -> Box:
        return Box(self.box.start[-2:], self.box.stop[-2:])

    def _section(self, lead: tuple[int, ...], tile: Box) -> NDArray[Any]:
        box = Box((*lead, *tile.start), (*(n + 1 for n in lead), *tile.stop))
        return self.source.read(box).reshape(tile.shape)


def crop(volume: Volume, box: Box) -> Volume:
    """``volume`` inside ``box`` only, at the same coordinates."""
    check_box(volume, box)
    if box.is_empty:
        raise UserError(f"box {box} holds no voxels of {volume.path}, whose box is {volume.box}; choose a larger one")
    return Crop(volume, box)


def expanded(volume: Volume, axes: str, **places: int) -> Volume:
    """``volume`` with all of ``axes``, which are its own and others of length one, at coordinate 0 or at ``places``."""
    if "".join(volume.meta.axes) == axes:
        return volume
    kept = [a for a in axes if a in volume.meta.axes]
    if tuple(kept) != volume.meta.axes:
        raise UserError(
            f"{volume.path} has axes {' '.join(volume.meta.axes)}, which do not fit into {' '.join(axes)}; "
            "choose a sample or a data set of it"
        )
    return Expanded(volume, tuple(axes), places)


def nonzero(volume: Volume) -> Volume:
    """``volume`` as a mask: 1 where it is not 0."""
    return Nonzero(volume)


def normalised(volume: Volume, normaliser: SectionNormaliser, keep_bytes: int = LIMIT_BYTES) -> Volume:
    """``volume`` as float32 in [0, 1], each section (the last two axes) through ``normaliser`` as it is read.

    Where the normaliser needs whole sections, up to ``keep_bytes`` of results are kept for the next tile.
    """
    if volume.meta.axes[-2:] != ("y", "x"):
        raise UserError(f"{volume.path} has axes {' '.join(volume.meta.axes)}; sections to normalise need y and x last")
    return Normalised(volume, normaliser, keep_bytes)
