"""Reading normalised windows of sections, from the stored mip or downsampled from a finer one.

A window is what the same place of the whole normalised section would be: sections are normalised whole where their statistics
are the whole section's, and with the context that the normaliser states where they are local. What is normalised is kept, as
long as the selected part of the volume fits into the memory given for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.data.shared import SharedSections
from lamella.ops.downsample import downsample_max, downsample_mean
from lamella.ops.normalise import Normaliser


@dataclass(frozen=True)
class AtMip:
    """A volume of axes (z, y, x) or (n, z, y, x), ``factor`` times coarser in y and x than it is stored."""

    volume: Volume
    factor: int = 1

    @property
    def box(self) -> Box:
        return self.volume.box.scale(self._factors)

    @property
    def _factors(self) -> tuple[int, ...]:
        return (1,) * (self.volume.box.ndim - 2) + (self.factor, self.factor)

    def images(self, box: Box) -> NDArray[Any]:
        """Intensities of ``box``, averaged without missing voxels."""
        fine = self._fine(box)
        array = self.volume.read(fine)
        return array if self.factor == 1 else downsample_mean(array, self._factors, start=fine.start, ignore_zero=True)

    def masks(self, box: Box) -> NDArray[Any]:
        """Mask values of ``box``, the largest of each group."""
        fine = self._fine(box)
        array = self.volume.read(fine)
        return array if self.factor == 1 else downsample_max(array, self._factors, start=fine.start)

    def _fine(self, box: Box) -> Box:
        start = tuple(a * f for a, f in zip(box.start, self._factors, strict=True))
        stop = tuple(b * f for b, f in zip(box.stop, self._factors, strict=True))
        return Box(start, stop).intersect(self.volume.box)


class Sections:
    """Windows of the normalised sections in ``selection``, a box of ``images``; picklable.

    With ``keep`` normalised sections are kept in memory, ``num_bytes`` if all of them are asked for.
    """

    def __init__(self, images: AtMip, normaliser: Normaliser, selection: Box, *, keep: bool) -> None:
        self.images, self.normaliser = images, normaliser
        self.context = normaliser.context(images.volume.dtype)
        self.region = self._around(selection)
        *leading, height, width = self.region.shape
        self._kept = SharedSections(prod(leading), (height, width)) if keep else None

    @staticmethod
    def num_bytes(images: AtMip, normaliser: Normaliser, selection: Box) -> int:
        """Memory that keeping the sections of ``selection`` takes."""
        return 4 * Sections(images, normaliser, selection, keep=False).region.size

    def window(self, box: Box, max_missing: float) -> NDArray[np.float32] | None:
        """``box`` as float32 in [0, 1], 0 where missing; None if more than ``max_missing`` of it is."""
        return self._from_kept(box, max_missing) if self._kept is not None else self._from_volume(box, max_missing)

    def _from_volume(self, box: Box, max_missing: float) -> NDArray[np.float32] | None:
        wide = self._around(box)
        raw, inside = self.images.images(wide), box.slices(wide.start)
        if _missing(raw[inside]) > max_missing:
            return None
        result = np.empty(box.shape, np.float32)
        for index in np.ndindex(*box.shape[:-2]):
            result[index] = self._normalised(raw[index], wide)[inside[-2:]]
        return result

    def _from_kept(self, box: Box, max_missing: float) -> NDArray[np.float32] | None:
        result = np.empty(box.shape, np.float32)
        inside = box.slices(self.region.start)
        for index in np.ndindex(*box.shape[:-2]):
            place = tuple(i + s.start for i, s in zip(index, inside, strict=False))
            result[index] = self._section(place)[inside[-2:]]
        return None if _missing(result) > max_missing else result

    def _section(self, place: tuple[int, ...]) -> NDArray[np.float32]:
        """The section at ``place`` of the region's leading axes, normalised if nobody has yet."""
        assert self._kept is not None
        number = int(np.ravel_multi_index(place, self.region.shape[:-2]))
        section = self._kept.get(number)
        if section is None:
            first = tuple(a + p for a, p in zip(self.region.start, place, strict=False))
            box = Box((*first, *self.region.start[-2:]), (*(f + 1 for f in first), *self.region.stop[-2:]))
            raw = self.images.images(box)
            section = self._normalised(raw.reshape(raw.shape[-2:]), box)
            self._kept.put(number, section)
        return section

    def _normalised(self, section: NDArray[Any], box: Box) -> NDArray[np.float32]:
        try:
            return self.normaliser(section)
        except UserError as error:
            raise UserError(f"{self.images.volume.path}, box {box}: {error}") from None

    def _around(self, box: Box) -> Box:
        """``box`` with all that its normalised sections depend on."""
        whole = self.images.box
        if self.context is None:
            return Box((*box.start[:-2], *whole.start[-2:]), (*box.stop[:-2], *whole.stop[-2:]))
        return box.grow((0,) * (box.ndim - 2) + (self.context, self.context)).intersect(whole)


def _missing(array: NDArray[Any]) -> float:
    return 1 - np.count_nonzero(array) / array.size
