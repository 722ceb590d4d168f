"""Folders of frames: one image file for each channel, slice, time point and position of an experiment.

```
im_c000_z006_t000_p003.png      channel, slice, time, position
img_DAPI_t000_p003_z006.tif     channel by name
```

Each position is a data set, ``p003``, with the axes ``t c z y x``; ``lamella info`` lists them and ``frames/p003`` names one. What
is where says the table ``frames_meta.csv`` if the folder has one (``lamella prep meta``, any pattern of names), else the names
above. Coordinates are the numbers of the names, so a position's box may begin elsewhere than at 0; all positions have the same
channels. A frame that is not in the table does not exist and reads as 0; ``present`` tells which do.

Folders that lamella writes keep voxel size, units, box and provenance in ``lamella.json``; in those, a frame that the table lists
but that has no file has not been written yet and reads as 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io.base import Header, StoredVolume, full_disk_explained
from lamella.io.contents import Contents, Dataset, built_beside
from lamella.io.folders import DTYPES, RECORD, encode, first_meta, put_file, read_image, read_tiff
from lamella.io.frames_names import POSITION_NAME, Frame, file_name, place_names
from lamella.io.frames_table import (
    META,
    FrameTable,
    check_files,
    common_form,
    is_table,
    listed,
    position_name,
    read_table,
    scan,
)
from lamella.io.place import Place
from lamella.io.plan import Plan, recorded
from lamella.io.recent import Recent

AXES = tuple("tczyx")
FRAMES = "frames"  # name of the list of frames in a volume's provenance
PLATE = "plate"  # what a plate said of itself, in the record of the frames made from it

_TIFF = (".tif", ".tiff")
_RECENT = Recent()  # of all positions, so that memory does not grow with their number
if hasattr(os, "register_at_fork"):  # a child's lock may be one that a thread of its parent held
    os.register_at_fork(after_in_child=_RECENT.clear)


class Frames:
    """Folders of frames."""

    kinds = ("frames", "frames-png")
    suffixes = ("_p*.tif", "_p*.png")
    label = "folder of frames (im_c***_z***_t***_p***)"

    def contents(self, place: Place) -> Contents | None:
        asked = any(place.name.endswith(s) for s in self.suffixes)
        table = find_table(folder_of(place) if asked else place.local)
        if table is None:
            return None
        datasets = {position_name(p): Dataset(1, partial(_open_position, table, p)) for p in table.positions}
        return Contents("folder of frames", datasets, positions=tuple(datasets))

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        create_frames(place, {0: plan}, suffix_of(place, kind))


class FramesVolume(StoredVolume):
    """One position; ``frames`` are those that exist."""

    def __init__(self, header: Header, table: FrameTable, frames: Iterable[Frame]) -> None:
        super().__init__(header)
        self.files = {(f.t, f.c, f.z): table.file(f) for f in frames}
        self.unwritten_is_zero = (table.folder / RECORD).is_file()

    def _read(self, box: Box) -> NDArray[Any]:
        result = np.zeros(box.shape, self.dtype)
        inner = Box(box.start[3:], box.stop[3:]).shift([-s for s in self.box.start[3:]])
        for place in _places(box):
            file = self.files.get(place)
            if file is not None:
                index = tuple(n - a for n, a in zip(place, box.start, strict=False))
                result[index] = self._frame(file, inner)
        return result

    def _frame(self, file: Path, box: Box) -> NDArray[Any]:
        try:
            if file.suffix.lower() in _TIFF:
                return read_tiff(file, box, self.dtype)
            stat = file.stat()
            whole = _RECENT.get((file, stat.st_mtime_ns, stat.st_size), lambda: read_image(file, 2))
            return np.array(whole[box.slices()])
        except FileNotFoundError:
            if self.unwritten_is_zero:
                return np.zeros(box.shape, self.dtype)
            raise

    def _write(self, box: Box, array: NDArray[Any]) -> None:
        if box.shape[3:] != self.box.shape[3:]:
            raise UserError(
                f"box {box} covers part of a frame; {self.path} is written in whole frames, {self.box.shape[3:]}"
            )
        for place in _places(box):
            frame = array[tuple(n - a for n, a in zip(place, box.start, strict=False))]
            file = self.files.get(place)
            if file is not None:
                put_file(file, encode(frame, file.suffix))
            elif frame.any():
                t, c, z = place
                raise UserError(
                    f"{self.path} was made without a frame for time {t}, channel {c}, slice {z}; it has data"
                )


def _places(box: Box) -> Iterable[tuple[int, int, int]]:
    t, c, z = (range(a, b) for a, b in zip(box.start[:3], box.stop[:3], strict=True))
    return product(t, c, z)


def find_table(path: Path | None) -> FrameTable | None:
    """The table of a folder, or at the path of one; None where there are no frames."""
    if path is None:
        return None
    if path.suffix.lower() == ".csv" and path.is_file():
        return read_table(path) if is_table(path) else None
    if (path / META).is_file():
        return read_table(path / META)
    if not path.is_dir() or not _looks_like_frames(path):
        return None
    table, unplaced = scan(path)
    if unplaced:
        raise UserError(
            f"{path} holds frames, and {len(unplaced)} image files whose names say not where they belong: "
            f"{listed(unplaced)}; list the frames with: lamella prep meta {path}"
        )
    return table


def _looks_like_frames(folder: Path) -> bool:
    """Whether one of the first few files is named as frames are."""
    with os.scandir(folder) as entries:
        names = [e.name for e, _ in zip(entries, range(64), strict=False)]
    return bool(place_names(names).frames)


def _open_position(table: FrameTable, position: int, mip: int, writable: bool) -> Volume:
    frames = table.positions[position]
    ours = _recorded(table.folder, position)
    if writable and ours is None:
        raise UserError(f"{table.folder} was not written by lamella, so it is only read; write the result elsewhere")
    if ours is not None:
        meta, box, dtype = ours
        path = f"{table.folder}/{position_name(position)}"
        return FramesVolume(Header(path, box, dtype, _chunk(box), meta, writable), table, frames)
    check_files(table, frames)
    shape, kind = common_form(table, frames)
    box = _box(table, frames, shape)
    meta = replace(_meta(table, frames, box), name=position_name(position))
    header = Header(f"{table.folder}/{position_name(position)}", box, np.dtype(kind), _chunk(box), meta)
    return FramesVolume(header, table, frames)


def _box(table: FrameTable, frames: tuple[Frame, ...], shape: tuple[int, ...]) -> Box:
    """Times and slices of this position, channels of the whole table."""
    times, slices = [f.t for f in frames], [f.z for f in frames]
    start = (min(times), min(table.channels), min(slices), 0, 0)
    return Box(start, (max(times) + 1, max(table.channels) + 1, max(slices) + 1, *shape))


def _chunk(box: Box) -> tuple[int, ...]:
    return (1, 1, 1, *box.shape[3:])


def _meta(table: FrameTable, frames: tuple[Frame, ...], box: Box) -> Meta:
    names = tuple(table.channels.values())
    meta = first_meta(table.file(frames[0]), "".join(AXES))
    return replace(
        meta,
        channel_names=names if any(names) else (),
        provenance=frames_record(frames, table.columns, box),
    )


def frames_record(frames: Iterable[Frame], columns: tuple[str, ...], box: Box) -> dict[str, Any]:
    """What a volume's provenance says of its frames; nothing where all exist and the table has no further columns."""
    frames = tuple(frames)
    if not columns and len(frames) == box.shape[0] * box.shape[1] * box.shape[2]:
        return {}
    rows = [[f.t, f.c, f.z, *f.extra] for f in frames]
    return {FRAMES: {"columns": ["t", "c", "z", *columns], "rows": rows}}


def listed_frames(meta: Meta) -> tuple[list[list[Any]], tuple[str, ...]] | None:
    """Rows (t, c, z, further columns) of the frames that exist, and the names of those columns; None if all do."""
    found: Any = meta.provenance
    while isinstance(found, Mapping):  # a copy keeps its source's provenance inside its own
        if FRAMES in found:
            return found[FRAMES]["rows"], tuple(found[FRAMES]["columns"][3:])
        found = found.get("source_provenance")
    return None


def present(volume: Volume) -> NDArray[np.bool_]:
    """Which frames of a volume ``t c z y x`` exist, as (t, c, z) from the first voxel of its box.

    True everywhere but in folders of frames with gaps, and what was made from them.
    """
    box, rows = volume.box, listed_frames(volume.meta)
    if rows is None:
        return np.ones(box.shape[:3], bool)
    result = np.zeros(box.shape[:3], bool)
    for t, c, z, *_ in rows[0]:
        if all(a <= n < b for n, a, b in zip((t, c, z), box.start, box.stop, strict=False)):
            result[t - box.start[0], c - box.start[1], z - box.start[2]] = True
    return result


# Writing


def suffix_of(place: Place, kind: str) -> str:
    """The ending of the files to write."""
    return ".png" if kind == "frames-png" or place.name.endswith(".png") else ".tif"


def create_frames(place: Place, plans: Mapping[int, Plan], suffix: str, plate: Mapping[str, Any] | None = None) -> None:
    """An empty folder of frames with the positions ``plans``, ``t c z y x`` each; ``plate`` is kept for the way back."""
    folder = folder_of(place)
    if folder is None:
        raise UserError(f"frames are written to local disks only, not to {place.url}; write a .zarr there")
    frames: list[Frame] = []
    columns = tuple(dict.fromkeys(k for plan in plans.values() for k in _extra_columns(plan)))
    for p, plan in plans.items():
        _check(plan, suffix)
        frames += _frames(plan, p, suffix, columns)
    records = {position_name(p): plan.record() for p, plan in plans.items()}
    with full_disk_explained(str(folder)), built_beside(Place(str(folder))) as beside:
        assert beside.local is not None
        FrameTable(beside.local, tuple(frames), columns).write(beside.local / META)
        beside.write_json(RECORD, {"suffix": suffix, FRAMES: records, **({PLATE: plate} if plate else {})})


def folder_of(place: Place) -> Path | None:
    """The folder that ``out/im_c*_z*_t*_p*.png`` or ``out`` names."""
    return place.local.parent if place.local is not None and "*" in place.local.name else place.local


def _extra_columns(plan: Plan) -> tuple[str, ...]:
    found = listed_frames(plan.meta)
    return found[1] if found else ()


def _frames(plan: Plan, position: int, suffix: str, columns: tuple[str, ...]) -> Iterable[Frame]:
    """The frames of a plan: those that its provenance lists, otherwise all."""
    found, names = listed_frames(plan.meta), dict(enumerate(plan.meta.channel_names, plan.box.start[1]))
    own = found[1] if found else ()
    rows = found[0] if found else [list(place) for place in _places(plan.box)]
    for t, c, z, *extra in rows:
        if all(a <= n < b for n, a, b in zip((t, c, z), plan.box.start, plan.box.stop, strict=False)):
            told = dict(zip(own, extra, strict=True))
            values = tuple(str(told.get(k, "")) for k in columns)
            yield Frame(t, c, z, position, names.get(c, ""), file_name(t, c, z, position, suffix), extra=values)


def _check(plan: Plan, suffix: str) -> None:
    axes = "".join(plan.meta.axes)
    if plan.meta.axes != AXES:
        raise UserError(f"frames hold the axes tczyx, not {axes}; use lamella convert, which adds those of length one")
    if len(plan.factors) > 1:
        raise UserError(f"frames hold no mips, {len(plan.factors)} were asked for; ask for 1, or write a .zarr")
    if min(plan.box.start[:3]) < 0:
        raise UserError(f"frames are named by t, c and z, which start at {plan.box.start[:3]}; shift them to 0 or more")
    if plan.dtype.name not in DTYPES[suffix]:
        raise UserError(
            f"{suffix} files do not hold {plan.dtype}; they hold {', '.join(DTYPES[suffix])}; convert, or write a .zarr"
        )


def _recorded(folder: Path, position: int) -> tuple[Meta, Box, np.dtype[Any]] | None:
    """What lamella stored of a position that it wrote."""
    stored = (Place(str(folder)).read_json(RECORD) or {}).get(FRAMES, {}).get(position_name(position))
    record = recorded(stored)
    return (record.meta, record.box, np.dtype(stored["dtype"])) if record and stored else None


def position_names(table: FrameTable) -> dict[int, str]:
    """Names that the table's column ``position_name`` gives to positions."""
    if POSITION_NAME not in table.columns:
        return {}
    at = table.columns.index(POSITION_NAME)
    return {p: frames[0].extra[at] for p, frames in table.positions.items() if frames[0].extra[at]}
