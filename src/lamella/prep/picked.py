"""One sample of an archive, one channel, one time point: a volume without the axes that were picked on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume


@dataclass(frozen=True)
class Picked:
    """``source`` at ``place`` of ``axis``, without that axis."""

    source: Volume
    axis: str
    place: int

    @property
    def path(self) -> str:
        return f"{self.source.path}#{self.axis}={self.place}"

    @property
    def _gone(self) -> int:
        return self.source.meta.axes.index(self.axis)

    def _without(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values[: self._gone] + values[self._gone + 1 :]

    @property
    def box(self) -> Box:
        return Box(self._without(self.source.box.start), self._without(self.source.box.stop))

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def chunk(self) -> tuple[int, ...]:
        return self._without(self.source.chunk)

    @property
    def meta(self) -> Meta:
        meta = self.source.meta
        names = meta.channel_names
        if names and self.axis == "c":
            names = (names[self.place - self.source.box.start[self._gone]],)
        return replace(
            meta,
            axes=self._without(meta.axes),
            voxel_size=self._without(meta.voxel_size),
            units=self._without(meta.units),
            translation=self._without(meta.translation),
            channel_names=names,
        )

    def read(self, box: Box) -> NDArray[Any]:
        def with_place(values: tuple[int, ...], place: int) -> tuple[int, ...]:
            return (*values[: self._gone], place, *values[self._gone :])

        whole = Box(with_place(box.start, self.place), with_place(box.stop, self.place + 1))
        return self.source.read(whole).squeeze(self._gone)

    def write(self, box: Box, array: NDArray[Any]) -> None:
        raise UserError(f"{self.path} is part of a volume and only read; write to the volume itself")


def pick(volume: Volume, axis: str, place: int | None, name: str) -> Volume:
    """``volume`` at ``place`` of ``axis``; as it is if no place is asked for. ``name`` is the user's word for the axis."""
    if place is None:
        return volume
    axes = "".join(volume.meta.axes)
    if axis not in axes:
        raise UserError(f"{name} {place} was asked for, but {volume.path} has only the axes {axes}; leave {name} out")
    low, high = (ends[axes.index(axis)] for ends in (volume.box.start, volume.box.stop))
    if not low <= place < high:
        raise UserError(
            f"{name} {place} does not exist in {volume.path}, which has {low} to {high - 1}; choose one of those"
        )
    return Picked(volume, axis, place)
