"""TIFF stacks: OME-TIFF, ImageJ, plain multi-page files, with mips where a file has sub-resolutions.

Each series of a file is a data set. Reading a box decodes only the strips or tiles that it touches. New stacks are OME-TIFF
(BigTIFF from 4 GB), uncompressed and laid out at once, so that sections may be written in any order and a kill leaves a file that
opens. Write a folder of TIFF for compression.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.core.volume import Volume
from lamella.io.base import Header, StoredVolume, full_disk_explained
from lamella.io.contents import Contents, Dataset
from lamella.io.flat import read_flat, write_flat
from lamella.io.place import Place
from lamella.io.plan import Plan, meta_at, recorded
from lamella.io.recent import Recent
from lamella.io.tiff_meta import ome_metadata, series_meta, stored_record

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffStack:
    """Single TIFF files."""

    kinds = ("tiff",)
    suffixes = (".tif", ".tiff", ".btf")
    label = "TIFF stack (.tif)"

    def contents(self, place: Place) -> Contents | None:
        file = place.local
        if file is None or not file.is_file() or not _is_tiff(file):
            return None
        with opened(file) as handle:
            label = "OME-TIFF" if handle.is_ome else "ImageJ TIFF" if handle.is_imagej else "TIFF"
            series = [s for s in handle.series if s.size]
            names = [""] if len(series) == 1 else [f"{i}:{s.name}".rstrip(":") for i, s in enumerate(series)]
            levels = [len(s.levels) for s in series]
        if not names:
            raise UserError(f"{file} is a TIFF without an image; give a file that has one")
        opens = [partial(_open_series, file, i) for i in range(len(names))]
        return Contents(label, {n: Dataset(k, o) for n, k, o in zip(names, levels, opens, strict=True)})

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        if place.local is None:
            raise UserError(f"TIFF files are written to local disks only, not to {place.url}; write a .zarr there")
        if len(plan.factors) > 1:
            raise UserError(
                f"TIFF stacks are written without mips, {len(plan.factors)} were asked for; ask for 1, or write a .zarr"
            )
        metadata = ome_metadata(plan, place.url)
        with full_disk_explained(place.url), replacing(place.local) as beside:
            tifffile.imwrite(
                beside, shape=plan.box.shape, dtype=plan.dtype, ome=True, photometric="minisblack", metadata=metadata
            )


@dataclass(frozen=True)
class _Layout:
    """How a level lies in its file: the axes as stored, and the byte where it begins if it is one uncompressed piece."""

    series: int
    level: int
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None


class TiffVolume(StoredVolume):
    """One level of one series."""

    def __init__(self, header: Header, file: Path, layout: _Layout) -> None:
        super().__init__(header)
        self.file, self.layout, self.recent = file, layout, Recent()
        self.order = tuple(layout.axes.index(a) for a in header.meta.axes)

    def _open(self) -> Any:
        handle = opened(self.file)
        return handle, handle.series[self.layout.series].levels[self.layout.level]

    def _stored(self, box: Box) -> Box:
        """The box in the file's own axes, from its first voxel; axes that are left out have length one."""
        local, n = box.shift([-s for s in self.box.start]), len(self.layout.axes)
        start, stop = [0] * n, [1] * n
        for i, axis in enumerate(self.order):
            start[axis], stop[axis] = local.start[i], local.stop[i]
        return Box(tuple(start), tuple(stop))

    def _read(self, box: Box) -> NDArray[Any]:
        stored, layout = self._stored(box), self.layout
        if layout.offset is not None:
            array = read_flat(self.file, layout.offset, layout.shape, layout.dtype, stored)
        else:
            array = self._read_pages(stored)
        dropped = tuple(i for i in range(array.ndim) if i not in self.order)
        array = np.transpose(array, (*self.order, *dropped)).reshape(box.shape)
        return np.ascontiguousarray(array, dtype=self.dtype)

    def _read_pages(self, stored: Box) -> NDArray[Any]:
        handle, series = self.handle
        lead = len(stored.shape) - len(series.keyframe.shape)
        pages = series.shape[:lead]
        result = np.zeros(stored.shape, self.dtype)
        inner = Box(stored.start[lead:], stored.stop[lead:])
        for index in product(*(range(n) for n in stored.shape[:lead])):
            number = (
                int(np.ravel_multi_index([a + i for a, i in zip(stored.start, index, strict=False)], pages))
                if lead
                else 0
            )
            with self._lock:  # pages are found by seeking in the file
                page = series.pages[number]
                segments = _segments(page)
            result[index] = read_page(handle, series.keyframe, segments, inner, self.recent, number)
        return result

    def _write(self, box: Box, array: NDArray[Any]) -> None:
        layout = self.layout
        assert layout.offset is not None
        back = [self.meta.axes.index(a) for a in layout.axes if a in self.meta.axes]
        stored = self._stored(box)
        write_flat(
            self.file,
            layout.offset,
            layout.shape,
            layout.dtype,
            stored,
            np.transpose(array, back).reshape(stored.shape),
        )


def opened(file: Path) -> Any:
    """The file, opened by tifffile."""
    try:
        return tifffile.TiffFile(file)
    except (OSError, tifffile.TiffFileError) as error:
        raise UserError(f"cannot open {file} as TIFF: {error}; it may be damaged or cut short") from None


def _segments(page: Any) -> tuple[Sequence[int], Sequence[int], bytes | None]:
    return page.dataoffsets, page.databytecounts, getattr(page, "jpegtables", None)


def read_page(
    handle: Any,
    keyframe: Any,
    segments: tuple[Sequence[int], Sequence[int], bytes | None],
    box: Box,
    recent: Recent,
    key: Any,
) -> NDArray[Any]:
    """``box`` of a page (in the page's own axes), decoding only the strips or tiles that it touches."""
    offsets, counts, tables = segments
    shape, grid = keyframe.shape, keyframe.chunked
    chunks = (1,) * (len(grid) - len(keyframe.chunks)) + tuple(keyframe.chunks)  # samples kept apart are not counted
    if math.prod(grid) != len(offsets):  # one run of bytes for all strips
        whole = read_flat(handle.filehandle.path, offsets[0], shape, keyframe.dtype.newbyteorder(handle.byteorder), box)
        return np.asarray(whole)
    result = np.zeros(box.shape, keyframe.dtype)
    touched = [range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, chunks, strict=True)]
    for cell in product(*touched):
        index = int(np.ravel_multi_index(cell, grid))
        if not counts[index]:
            continue  # a segment without bytes is empty
        corner = [i * c for i, c in zip(cell, chunks, strict=True)]

        def decode(index: int = index) -> NDArray[Any]:
            data = os.pread(handle.filehandle.fileno(), counts[index], offsets[index])
            decoded = keyframe.decode(data, index, jpegtables=tables)[0]
            return _in_page_axes(decoded, keyframe.axes)

        part = recent.get((key, index), decode)
        have = Box.of(part.shape).shift(corner).intersect(box)
        result[have.slices(box.start)] = part[have.slices(corner)]
    return result


def _in_page_axes(decoded: NDArray[Any] | None, axes: str) -> NDArray[Any]:
    """A segment, decoded as (depth, length, width, samples), in the axes of its page, for example Y X, Y X S or S Y X."""
    if decoded is None:
        return np.zeros((0,) * len(axes))
    part = decoded if "Z" in axes else decoded[0]
    part = part if axes.endswith("S") else part[..., 0]
    return part[np.newaxis] if axes.startswith("S") else part


def _is_tiff(file: Path) -> bool:
    try:
        with open(file, "rb") as handle:
            return handle.read(4) in _MAGIC
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None


def _open_series(file: Path, number: int, mip: int, writable: bool) -> Volume:
    with opened(file) as handle:
        series = handle.series[number]
        level = series.levels[mip]
        if level.is_multifile:
            raise UserError(
                f"{file} is one of several files of an OME-TIFF; open their folder, or convert it to one file"
            )
        ours = recorded(stored_record(handle))
        meta, axes = series_meta(handle, number)
        factor = [round(a / b) for a, b in zip(series.shape, level.shape, strict=True)]
        order = [axes.index(a) for a in meta.axes]
        meta = meta_at(meta, [factor[i] for i in order])
        shape = tuple(level.shape[i] for i in order)
        box = ours.box if ours and ours.box.shape == shape else Box.of(shape)
        dtype = level.dtype.newbyteorder("=")
        chunk = tuple(n if a in "yx" else 1 for a, n in zip(meta.axes, shape, strict=True))
        stored = level.dtype.newbyteorder(handle.byteorder)
        layout = _Layout(number, mip, axes, tuple(level.shape), stored, level.dataoffset)
    if writable and layout.offset is None:
        raise UserError(
            f"{file} is compressed or not in one piece, so it cannot be written into; convert it to a .zarr"
        )
    return TiffVolume(Header(str(file), box, dtype, chunk, meta, writable), file, layout)
