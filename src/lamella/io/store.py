"""Volumes in chunked stores, through TensorStore: zarr 2 and 3, N5 and Neuroglancer precomputed.

A store's dimensions may stand in another order than ours, and begin elsewhere; the volume arranges them once, on opening.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io.base import Header, StoredVolume, full_disk_explained
from lamella.io.place import Place, context, reason


class StoreVolume(StoredVolume):
    """An array that TensorStore reads and writes; ``stored_axes`` are the letters of the store's own dimensions."""

    def __init__(self, header: Header, spec: dict[str, Any], stored_axes: Sequence[str]) -> None:
        super().__init__(header)
        self.spec, self.stored_axes = spec, tuple(stored_axes)

    def _open(self) -> Any:
        store = open_array(self.spec, self.path, write=self.header.writable)
        return arrange(store, self.stored_axes, self.meta.axes, self.box.start)

    def _read(self, box: Box) -> NDArray[Any]:
        store = self.handle
        try:
            return np.asarray(store[box.slices()].read(order="C").result())
        except Exception as error:  # TensorStore raises ValueError for damaged chunks and lost servers alike
            raise OSError(f"cannot read {box} of {self.path}: {reason(error)}") from error

    def _write(self, box: Box, array: NDArray[Any]) -> None:
        store = self.handle
        try:
            store[box.slices()].write(array).result()
        except ValueError as error:
            raise OSError(f"cannot write {box} of {self.path}: {reason(error)}") from error


def open_array(spec: dict[str, Any], path: str, *, write: bool = False) -> Any:
    """TensorStore's handle of the array that ``spec`` describes."""
    shared = context()
    try:
        return ts.open(spec, read=True, write=write, open=True, context=shared).result()
    except Exception as error:
        raise UserError(f"cannot open the array of {path}: {reason(error)}; check that it is complete") from None


def create_array(spec: dict[str, Any], path: str) -> None:
    """Write the metadata of a new array."""
    with full_disk_explained(path):
        try:
            ts.open(spec, create=True, context=context()).result()
        except ValueError as error:
            raise UserError(f"cannot create {path}: {reason(error)}") from error


def store_volume(
    place: Place,
    spec: dict[str, Any],
    stored_axes: Sequence[str],
    meta: Meta,
    *,
    start: Sequence[int] | None,
    writable: bool,
) -> StoreVolume:
    """Open an array with the metadata given; ``start`` is its first voxel, by default the store's own.

    Axes of the store that ``meta`` leaves out must have length one.
    """
    store = open_array(spec, place.url, write=writable)
    if len(stored_axes) != store.rank:
        raise UserError(
            f"{place.url} has {store.rank} dimensions, its metadata names {len(stored_axes)}; it is damaged"
        )
    arranged = arrange(store, stored_axes, meta.axes, start)
    box = Box(tuple(arranged.domain.inclusive_min), tuple(arranged.domain.exclusive_max))
    chunk = arranged.chunk_layout.write_chunk.shape
    header = Header(place.url, box, np.dtype(store.dtype.numpy_dtype), _clip(chunk, box), meta, writable)
    return StoreVolume(header, spec, stored_axes)


def arrange(store: Any, stored_axes: Sequence[str], axes: Sequence[str], start: Sequence[int] | None) -> Any:
    """The store with our axes, in our order, beginning at ``start``."""
    kept = [a for a in stored_axes if a in axes]
    dropped = [i for i, a in enumerate(stored_axes) if a not in axes]
    if dropped:
        store = store[ts.d[dropped][tuple(store.domain.inclusive_min[i] for i in dropped)]]
    store = store[ts.d[[kept.index(a) for a in axes]].transpose[:]]
    store = store[ts.d[:].label[("",) * len(axes)]]
    return store if start is None else store[ts.d[:].translate_to[tuple(start)]]


def drop_singletons(meta: Meta, shape: Sequence[int]) -> Meta:
    """Metadata without t and c axes of length one, so that a 5D file of one stack is read as (z, y, x)."""
    keep = [i for i, (a, n) in enumerate(zip(meta.axes, shape, strict=True)) if not (a in "tc" and n == 1)]

    def pick(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[i] for i in keep) if values else ()

    return replace(
        meta,
        axes=pick(meta.axes),
        voxel_size=pick(meta.voxel_size),
        units=pick(meta.units),
        translation=pick(meta.translation),
    )


def _clip(chunk: Sequence[int | None], box: Box) -> tuple[int, ...]:
    return tuple(min(c or n, n) for c, n in zip(chunk, box.shape, strict=True))
