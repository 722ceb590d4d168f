"""Channels of one position at one time, read crop by crop through the views of a ``Preprocessing``.

Whole frames are kept in memory that data loaders share where there is room; what does not fit is read crop by crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.data.image import Index, inside, mirrored, spanned, take
from lamella.data.shared import SharedSections

Unit = tuple[float, float]
"""Intensities of a view that become 0 and 1."""


@dataclass(frozen=True)
class Finish:
    """What becomes of a view's values: ``units`` by channel, then cut to 0 and 1 if ``clip``; or 1 where they are above 0."""

    units: tuple[Unit, ...] | None = None
    clip: bool = False
    binary: bool = False

    def __call__(self, values: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
        if self.binary:
            return (values > 0).astype(np.float32)
        if self.units is not None:
            low, high = self.units[channel]
            values = (values - np.float32(low)) / np.float32(high - low)
        return np.clip(values, 0, 1) if self.clip else values


class FrameImage:
    """Channels ``channels`` (as the volume numbers them) of ``volume`` (t c z y x) at ``time``, as crops see them. Picklable.

    ``planes`` are the slices to draw from, counted from the volume's first. ``nearest``: for each slice the one that stands for it
    (masks, which may not exist at all slices); each itself if not given.
    """

    def __init__(
        self,
        volume: Volume,
        time: int,
        channels: Sequence[int],
        planes: tuple[int, ...],
        *,
        finish: Finish | None = None,
        nearest: tuple[int, ...] | None = None,
    ) -> None:
        self.volume, self.time, self.channels, self.planes = volume, time, tuple(channels), planes
        self.finish, self.nearest = finish or Finish(), nearest
        self.kept: SharedSections | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.volume.box.shape[2:]
        return z, y, x

    @property
    def num_bytes(self) -> int:
        """What keeping all frames takes."""
        return 4 * len(self.channels) * int(np.prod(self.shape))

    def keep(self) -> None:
        """Keep frames in memory once they have been read."""
        self.kept = SharedSections(len(self.channels) * self.shape[0], self.shape[1:])

    def image(self, box: Box, slices: int = 1) -> NDArray[np.float32]:
        """``box`` (z, y, x, from the volume's first voxel) as (c, z, y, x), mirrored outside.

        With ``slices`` the box has one slice, and those around it follow each other as channels, (c * slices, 1, y, x); beyond the
        first and the last these repeat.
        """
        deep, *plane = mirrored(box, self.shape)
        zs = range(self.shape[0])[deep] if isinstance(deep, slice) else [int(z) for z in deep]
        if slices > 1:
            reach, last = slices // 2, self.shape[0] - 1
            zs = [min(max(z, 0), last) for z in range(box.start[0] - reach, box.start[0] + reach + 1)]
        found = np.empty((len(self.channels), len(zs), *box.shape[1:]), np.float32)
        for channel in range(len(self.channels)):
            for k, z in enumerate(zs):
                found[channel, k] = self._crop(channel, z, plane)
        return found.reshape(-1, 1, *box.shape[1:]) if slices > 1 else found

    def inside(self, box: Box) -> NDArray[np.float32]:
        """1 where ``box`` (z, y, x) shows the image, 0 where it is mirrored."""
        return inside(box, Box.of(self.shape))

    def frame(self, channel: int, z: int) -> NDArray[np.float32]:
        """A whole frame (y, x); ``channel`` counts in ``channels``."""
        number = channel * self.shape[0] + z
        known = self.kept.get(number) if self.kept is not None else None
        if known is None:
            known = self._read(channel, z, Box.of(self.shape[1:]))
            if self.kept is not None:
                self.kept.put(number, known)
        return known

    def _crop(self, channel: int, z: int, plane: list[Index]) -> NDArray[np.float32]:
        first: list[Index] = [slice(0, 1)]
        if self.kept is not None:
            return take(self.frame(channel, z)[None], first + plane)[0]
        box, local = spanned(first + plane, (1, *self.shape[1:]))
        return take(self._read(channel, z, Box(box.start[1:], box.stop[1:]))[None], local)[0]

    def _read(self, channel: int, z: int, box: Box) -> NDArray[np.float32]:
        """``box`` (y, x) of a frame."""
        z = z if self.nearest is None else self.nearest[z]
        start = self.volume.box.start
        corner = (
            self.time,
            self.channels[channel],
            start[2] + z,
            *(a + b for a, b in zip(start[3:], box.start, strict=True)),
        )
        whole = Box(corner, tuple(a + n for a, n in zip(corner, (1, 1, 1, *box.shape), strict=True)))
        values: NDArray[Any] = self.volume.read(whole)[0, 0, 0]
        return self.finish(values.astype(np.float32, copy=False), channel)
