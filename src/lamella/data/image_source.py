"""Where images come from: what a source takes of each, opened as arrays of known axes.

Whatever axes a file has, it is read here as ``(c, z, y, x)``, with z of length one where it has none. Each time point is an image
of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.box import Box, parse_box
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io.pairs import Layout


class ImageSource(Config):
    """Images, with or without labels. Layouts are told in ``lamella.io.layouts``."""

    path: str = Field(description="folder of images, Cell Tracking Challenge folder, OME-Zarr, or one image or volume")
    layout: Layout = Field("auto", description="auto, folders, suffixes, ctc, ome-zarr or files")
    names: str | tuple[str, ...] | None = Field(
        None, description="only these images: a list, a text file of names, or FILE.json:KEY"
    )
    channels: tuple[int, ...] | None = Field(None, min_length=1, description="channels to take, counted from 0; or all")
    dataset: str | None = Field(None, description="data set of the image in a file that holds several")
    mip: int = Field(0, ge=0, description="mip of the images")
    bbox: str | None = Field(None, description="part to take: START:STOP for y,x or z,y,x")
    z: str | None = Field(None, description="sections to take, START:STOP")
    weight: float = Field(1.0, gt=0, description="how often its images are drawn, relative to those of other sources")


def common_channels(sources: Iterable[ImageSource]) -> tuple[int, ...] | None:
    """The channels that all sources take; None if they do not agree, or take all."""
    chosen = {source.channels for source in sources}
    return chosen.pop() if len(chosen) == 1 else None


@dataclass(frozen=True)
class Part:
    """One time point of a volume, of which ``box`` (z, y, x, from 0) is taken; ``channels`` of None are all."""

    volume: Volume
    box: Box
    time: int | None = None
    channels: tuple[int, ...] | None = None

    @property
    def num_channels(self) -> int:
        if "c" not in self.volume.meta.axes:
            return 1
        return len(self.channels) if self.channels else self.volume.box.shape[self.volume.meta.axes.index("c")]

    def read(self, box: Box) -> NDArray[Any]:
        """``box`` (z, y, x, from the part's first voxel) as (c, z, y, x)."""
        wanted = dict(zip("zyx", box.shift(self.box.start).slices(), strict=True))
        inner = self.volume_box({axis: (s.start, s.stop) for axis, s in wanted.items()})
        array = _arranged(self.volume.read(inner), self.volume.meta.axes)
        return array if self.channels is None else array[list(self.channels)]

    def volume_box(self, ranges: dict[str, tuple[int, int]]) -> Box:
        """The volume's own box of ``ranges`` per axis, of this time point and all channels."""
        if self.time is not None:
            ranges = {**ranges, "t": (self.time, self.time + 1)}
        whole = self.volume.box
        starts, stops = list(whole.start), list(whole.stop)
        for k, axis in enumerate(self.volume.meta.axes):
            if axis in ranges:
                low, high = ranges[axis]
                starts[k], stops[k] = whole.start[k] + low, whole.start[k] + high
        return Box(tuple(starts), tuple(stops))

    @property
    def is_whole(self) -> bool:
        """Whether ``box`` is all of the image."""
        axes = self.volume.meta.axes
        return all(
            n == (self.volume.box.shape[axes.index(a)] if a in axes else 1)
            for a, n in zip("zyx", self.box.shape, strict=True)
        )

    @property
    def whole(self) -> Box:
        """All of this time point, in the volume's own coordinates: what intensities are measured on."""
        return self.volume_box({})


def length_of(volume: Volume, axis: str) -> int:
    """Of an axis of a volume, 1 if it has none of that name."""
    axes = volume.meta.axes
    return volume.box.shape[axes.index(axis)] if axis in axes else 1


def check_image(image: Volume, path: str, source: ImageSource, ndim: int, slices: int) -> None:
    """Refuse an image that samples of ``ndim`` axes, or of ``slices`` sections, cannot be made of."""
    axes = " ".join(image.meta.axes)
    if image.meta.axes[-2:] != ("y", "x") or "n" in image.meta.axes:
        raise UserError(f"{path} has axes {axes}; images need y x, with c, z and t before them")
    if image.dtype.kind not in "buif":
        raise UserError(f"{path} holds {image.dtype}; images must be integers or floats")
    if "z" not in image.meta.axes and (ndim == 3 or slices > 1):
        what = "data.ndim=3" if ndim == 3 else f"data.slices={slices}"
        raise UserError(f"{path} has axes {axes} and no z, but {what} needs volumes; set data.ndim=2 data.slices=1")
    num = length_of(image, "c")
    if source.channels and not all(0 <= c < num for c in source.channels):
        raise UserError(f"{path} has {num} channels, {list(source.channels)} were asked for; count from 0")


def selected(source: ImageSource, image: Volume, path: str) -> Box:
    """The box (z, y, x, from 0) that ``bbox`` and ``z`` leave."""
    whole = Box.of((length_of(image, "z"), length_of(image, "y"), length_of(image, "x")))
    try:
        box = parse_box(source.bbox, whole) if source.bbox else whole
        if source.z is None:
            return box
        z = parse_box(source.z, Box((0,), (whole.stop[0],)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    box = box.intersect(Box((*z.start, *whole.start[1:]), (*z.stop, *whole.stop[1:])))
    if box.is_empty:
        raise UserError(f"{path}: z {source.z} and bbox {source.bbox} have no section in common")
    return box


def _arranged(array: NDArray[Any], axes: Iterable[str]) -> NDArray[Any]:
    """An array of any of the axes t c z y x, with t of length one, as (c, z, y, x)."""
    axes = list(axes)
    if "t" in axes:
        array = array.take(0, axes.index("t"))
        axes.remove("t")
    for place, axis in enumerate("cz"):
        if axis not in axes:
            array, axes = np.expand_dims(array, place), [*axes[:place], axis, *axes[place:]]
    return array.transpose([axes.index(a) for a in "czyx"])
