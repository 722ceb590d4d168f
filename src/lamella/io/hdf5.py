"""HDF5 files: stack archives (N, H, D, D) and other data sets, several in one file.

Every numeric data set of one to five dimensions is a data set here, named by its path in the file. Without a record of lamella's,
four dimensions are taken as samples of sections (``n z y x``), three as ``z y x``, two as ``y x``.

New data sets are uncompressed and of fixed place and length, so that blocks may be written in any order and a kill at any moment
leaves a file that opens and goes on to the same bytes. (HDF5 writes a compressed data set's index late and in pieces; a kill in
between loses the file.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import refuse_existing, replacing
from lamella.core.volume import Meta, Volume
from lamella.io.base import Header, StoredVolume, full_disk_explained
from lamella.io.contents import Contents, Dataset
from lamella.io.flat import read_flat, write_flat
from lamella.io.place import Place
from lamella.io.plan import KEY, Plan, make_plan, recorded

MAIN = "main"  # name of a single data set; the name that older archives use

_BY_RANK = {1: "x", 2: "yx", 3: "zyx", 4: "nzyx", 5: "nczyx"}
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Hdf5:
    """HDF5 stack archives."""

    kinds = ("hdf5",)
    suffixes = (".h5", ".hdf5", ".hdf")
    label = "HDF5 file (.h5)"

    def contents(self, place: Place) -> Contents | None:
        file = place.local
        if file is None or not file.is_file() or not _is_hdf5(file):
            return None
        with _opened(file) as handle:
            names = _arrays(handle)
        if not names:
            raise UserError(f"{file} is an HDF5 file without a numeric array of 1 to 5 dimensions; give one that has")
        return Contents("HDF5", {n: Dataset(1, partial(_open_dataset, file, n)) for n in names})

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        if place.local is None:
            raise UserError(f"HDF5 files are written to local disks only, not to {place.url}; write a .zarr there")
        if len(plan.factors) > 1:
            raise UserError(f"HDF5 files hold no mips, {len(plan.factors)} were asked for; ask for 1, or write a .zarr")
        _write_empty(place.local, {MAIN: plan})


class Hdf5Volume(StoredVolume):
    """One data set. Where its bytes lie in one piece they are read and written directly, otherwise through h5py."""

    def __init__(self, header: Header, file: Path, name: str, stored: np.dtype[Any], offset: int | None) -> None:
        super().__init__(header)
        self.file, self.name, self.stored, self.offset = file, name, stored, offset

    def _open(self) -> Any:
        return _opened(self.file, "r+" if self.header.writable else "r")[self.name]

    def _read(self, box: Box) -> NDArray[Any]:
        local = box.shift([-s for s in self.box.start])
        if self.offset is not None:
            return read_flat(self.file, self.offset, self.box.shape, self.stored, local)
        with self._lock:
            return np.asarray(self.handle[local.slices()])

    def _write(self, box: Box, array: NDArray[Any]) -> None:
        local = box.shift([-s for s in self.box.start])
        if self.offset is not None:
            write_flat(self.file, self.offset, self.box.shape, self.stored, local, array)
            return
        with self._lock:
            self.handle[local.slices()] = array
            self.handle.file.flush()


def create_archive(
    path: str | Path, arrays: Mapping[str, tuple[Box, Any, Meta]], *, overwrite: bool = False
) -> dict[str, Volume]:
    """A new HDF5 file of several data sets, each given as (box, dtype, metadata); returns their writable volumes.

    All are laid out at once, so filling them never changes the file's structure.
    """
    file = Path(path)
    refuse_existing(file, overwrite=overwrite)
    if not arrays:
        raise UserError(f"archive {file} would hold no data set; name at least one")
    _write_empty(file, {n: make_plan(box, dtype, meta) for n, (box, dtype, meta) in arrays.items()})
    return {name: _open_dataset(file, name, 0, True) for name in arrays}


def _write_empty(file: Path, plans: Mapping[str, Plan]) -> None:
    with full_disk_explained(str(file)), replacing(file) as beside, h5py.File(beside, "w") as handle:
        for name, plan in plans.items():
            data = _allocate(handle, name, plan.box.shape, plan.dtype)
            data.attrs["axes"] = "".join(plan.meta.axes)
            data.attrs["voxel_size"] = plan.meta.voxel_size
            data.attrs["units"] = list(plan.meta.units)
            data.attrs[KEY] = json.dumps(plan.record())


def _allocate(handle: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """A contiguous data set with its bytes reserved but not written, so the file stays sparse until it is filled."""
    *groups, last = name.strip("/").split("/")
    parent = handle.require_group("/".join(groups)) if groups else handle
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)  # the same contents shall be the same bytes whenever written
    space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(dtype, logical=True)
    return h5py.Dataset(h5py.h5d.create(parent.id, last.encode(), kind, space, dcpl=layout))


def _is_hdf5(file: Path) -> bool:
    try:
        with open(file, "rb") as handle:
            return handle.read(8) == _SIGNATURE
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None


def _opened(file: Path, mode: str = "r") -> Any:
    try:
        return h5py.File(file, mode)
    except OSError as error:
        raise UserError(f"cannot open {file}: {error}; it may be damaged or in use by another process") from None


def _arrays(handle: Any) -> list[str]:
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and 1 <= item.ndim <= 5 and item.size:
            found.append(name)

    handle.visititems(visit)
    return found


def _open_dataset(file: Path, name: str, mip: int, writable: bool) -> Volume:
    with _opened(file) as handle:
        data = handle[name]
        ours = recorded(_record(data))
        box = ours.box if ours and ours.box.shape == data.shape else Box.of(data.shape)
        meta = ours.meta if ours and ours.box.shape == data.shape else _foreign_meta(data, name)
        chunk = data.chunks or _sections(meta.axes, data.shape)
        offset = data.id.get_offset() if data.chunks is None and not data.external else None
        stored = data.dtype
        header = Header(str(file), box, stored.newbyteorder("="), chunk, meta, writable)
    return Hdf5Volume(header, file, name, stored, offset)


def _record(data: Any) -> Mapping[str, Any] | None:
    text = data.attrs.get(KEY)
    return json.loads(text) if isinstance(text, str) else None


def _foreign_meta(data: Any, name: str) -> Meta:
    axes = str(data.attrs.get("axes", ""))
    if len(axes) != data.ndim or not set(axes) <= set("ntczyx"):
        axes = _BY_RANK[data.ndim]
    return Meta.plain(axes, name=name)


def _sections(axes: Sequence[str], shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(n if a in "yx" else 1 for a, n in zip(axes, shape, strict=True))
