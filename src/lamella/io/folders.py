"""Folders of TIFF, PNG or JPEG files, one section each, in natural order (2 before 10).

Name the folder, or the files in it where there are several kinds: ``sections/*.png``. All must have one size and type. In folders
that lamella wrote, the number in a file's name is its z, and a section without a file has not been written and reads as 0.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.volume import Meta, Volume
from lamella.io.base import Header, StoredVolume, full_disk_explained
from lamella.io.contents import Contents, Dataset, built_beside
from lamella.io.place import Place
from lamella.io.plan import KEY, Plan, Recorded, recorded
from lamella.io.recent import Recent
from lamella.io.tiff import opened, read_page

RECORD = "lamella.json"

_TIFF = (".tif", ".tiff")
_IMAGES = (".png", ".jpg", ".jpeg")
DTYPES = {
    ".png": ("uint8", "uint16"),
    ".tif": ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"),
}


class Folder:
    """Folders of sections."""

    kinds = ("png-folder", "tiff-folder")
    suffixes = ("*.png", "*.tif", "*.tiff")
    label = "folder of TIFF, PNG or JPEG sections"

    def contents(self, place: Place) -> Contents | None:
        folder, pattern = _split(place)
        if folder is None or not folder.is_dir():
            return None
        ours = _record(folder)
        if ours is not None:
            suffix, record = ours
            files = {z: f"{z:05d}{suffix}" for z in range(record.box.start[0], record.box.stop[0])}
            return Contents(
                f"folder of {suffix[1:].upper()}", {"": Dataset(1, partial(_open_recorded, folder, files, record))}
            )
        names = _sections(folder, pattern)
        if not names:
            return None
        return Contents(
            f"folder of {Path(names[0]).suffix[1:].upper()}", {"": Dataset(1, partial(_open_found, folder, names))}
        )

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        folder, _ = _split(place)
        suffix = ".png" if kind == "png-folder" else ".tif"
        if folder is None:
            raise UserError(
                f"folders of sections are written to local disks only, not to {place.url}; write a .zarr there"
            )
        _check(plan, suffix)
        with full_disk_explained(str(folder)), built_beside(Place(str(folder))) as beside:
            beside.write_json(RECORD, {"suffix": suffix, KEY: plan.record()})


class FolderVolume(StoredVolume):
    """Sections in files; ``files`` gives the name of each z."""

    def __init__(self, header: Header, folder: Path, files: dict[int, str]) -> None:
        super().__init__(header)
        self.folder, self.files, self.recent = folder, files, Recent()

    def _read(self, box: Box) -> NDArray[Any]:
        z = self.meta.axes.index("z")
        planes = [self._section(n, _without(box, z)) for n in range(box.start[z], box.stop[z])]
        return np.stack(planes, axis=z)

    def _section(self, number: int, box: Box) -> NDArray[Any]:
        """``box`` (without z) of one section."""
        file = self.folder / self.files[number]
        local = box.shift([-s for s in _without(self.box, self.meta.axes.index("z")).start])
        try:
            if file.suffix.lower() in _TIFF:
                return read_tiff(file, local, self.dtype)
            whole = self.recent.get(number, lambda: read_image(file, local.ndim))
        except FileNotFoundError:
            if self.header.writable or (self.folder / RECORD).exists():
                return np.zeros(box.shape, self.dtype)
            raise
        return np.array(whole[local.slices()])

    def _write(self, box: Box, array: NDArray[Any]) -> None:
        if box.shape[1:] != self.box.shape[1:]:
            raise UserError(
                f"box {box} covers part of a section; {self.path} is written in whole sections, {self.box.shape[1:]}"
            )
        for number, section in zip(range(box.start[0], box.stop[0]), array, strict=True):
            file = self.folder / self.files[number]
            put_file(file, encode(section, file.suffix))
            self.recent.forget(number)


def _split(place: Place) -> tuple[Path | None, str]:
    if place.local is None:
        return None, ""
    return (place.local.parent, place.local.name) if "*" in place.local.name else (place.local, "*")


def _without(box: Box, axis: int) -> Box:
    return Box(box.start[:axis] + box.start[axis + 1 :], box.stop[:axis] + box.stop[axis + 1 :])


def _record(folder: Path) -> tuple[str, Recorded] | None:
    found = Place(str(folder)).read_json(RECORD)
    record = recorded(found.get(KEY)) if found else None
    return (str(found["suffix"]), record) if found and record else None


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts numbers in names by value.

    >>> sorted(["s10.png", "s2.png"], key=natural)
    ['s2.png', 's10.png']
    """
    return [(0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"(\d+)", name) if p]


def _sections(folder: Path, pattern: str) -> list[str]:
    found = [
        p.name for p in folder.glob(pattern) if p.suffix.lower() in (*_TIFF, *_IMAGES) and not p.name.startswith(".")
    ]
    kinds = sorted({Path(n).suffix.lower() for n in found})
    if len({k.replace("jpeg", "jpg").replace("tiff", "tif") for k in kinds}) > 1:
        raise UserError(
            f"{folder} holds {' and '.join(kinds)} files; choose one kind, for example {folder}/*{kinds[0]}"
        )
    return sorted(found, key=natural)


def _open_recorded(folder: Path, files: dict[int, str], record: Recorded, mip: int, writable: bool) -> Volume:
    suffix = Path(next(iter(files.values()))).suffix
    found = Place(str(folder)).read_json(RECORD) or {}
    dtype = np.dtype(found[KEY]["dtype"])
    assert suffix in DTYPES
    header = Header(str(folder), record.box, dtype, (1, *record.box.shape[1:]), record.meta, writable)
    return FolderVolume(header, folder, files)


def _open_found(folder: Path, names: list[str], mip: int, writable: bool) -> Volume:
    if writable:
        raise UserError(f"{folder} was not written by lamella, so it is only read; write the result elsewhere")
    shape, dtype = _common_form(folder, names)
    axes = "zyx" if len(shape) == 2 else "czyx"
    plane = shape if len(shape) == 2 else (shape[2], *shape[:2])
    full = (len(names), *plane) if len(shape) == 2 else (plane[0], len(names), *plane[1:])
    chunk = tuple(1 if a == "z" else n for a, n in zip(axes, full, strict=True))
    meta = replace(first_meta(folder / names[0], axes), name=folder.resolve().name)
    return FolderVolume(Header(str(folder), Box.of(full), dtype, chunk, meta), folder, dict(enumerate(names)))


def _common_form(folder: Path, names: Sequence[str]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype that all files share, from their headers; names the first file that differs."""
    forms = []
    with progress("reading headers", len(names), "files") as meter:
        for name in names:
            forms.append(form_of(folder / name))
            meter.advance()
    usual, _ = Counter(forms).most_common(1)[0]
    odd = next((i for i, f in enumerate(forms) if f != usual), None)
    if odd is not None:
        (shape, dtype), (need, kind) = forms[odd], usual
        raise UserError(
            f"{folder / names[odd]} is {_times(shape)} {dtype}, most others are {_times(need)} {kind}; "
            "all sections must have one size and type: pad, crop or remove it"
        )
    return usual[0], np.dtype(usual[1])


def _times(shape: Sequence[int]) -> str:
    return " by ".join(map(str, shape))


def form_of(file: Path) -> tuple[tuple[int, ...], str]:
    """Shape (y, x, or y, x, c for colour) and type of the image in a file, from its header."""
    if file.suffix.lower() in _TIFF:
        with opened(file) as handle:
            if len(handle.pages) > 1 and len(handle.series[0].pages) > 1:
                raise UserError(
                    f"{file} holds {len(handle.pages)} pages; in a folder each file is one section; open it alone"
                )
            page = handle.pages[0]
            shape = page.shape if page.planarconfig != 2 or len(page.shape) == 2 else (*page.shape[1:], page.shape[0])
            return tuple(shape), page.dtype.newbyteorder("=").name
    try:
        with Image.open(file) as image:
            width, height, mode = *image.size, image.mode
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}; remove it or replace it") from None
    if mode in ("L", "1", "I;16", "I", "F", "I;16B"):
        return (height, width), {"1": "bool", "L": "uint8", "F": "float32", "I": "int32"}.get(mode, "uint16")
    sample = iio.imread(file) if mode == "P" else None
    return (height, width, sample.shape[-1] if sample is not None else len(mode)), "uint8"


def first_meta(file: Path, axes: str) -> Meta:
    """What a TIFF file says of voxel sizes and units, for ``axes``; unit voxels for other files."""
    from lamella.io.tiff_meta import series_meta

    if file.suffix.lower() not in _TIFF:
        return Meta.plain(axes)
    with opened(file) as handle:
        found, _ = series_meta(handle, 0)
    size, unit = dict(zip(found.axes, found.voxel_size, strict=True)), dict(zip(found.axes, found.units, strict=True))
    return Meta(tuple(axes), tuple(size.get(a, 1.0) for a in axes), tuple(unit.get(a, "") for a in axes))


def read_tiff(file: Path, box: Box, dtype: np.dtype[Any]) -> NDArray[Any]:
    """``box`` (y x, or c y x) of the first page, decoding only what it touches."""
    with tifffile.TiffFile(file) as handle:
        page = handle.pages[0].aspage()
        planar = page.planarconfig == 2
        order = (0, 1, 2) if planar or box.ndim == 2 else (1, 2, 0)  # our axes are (c) y x
        inner = box if box.ndim == 2 else Box(tuple(box.start[i] for i in order), tuple(box.stop[i] for i in order))
        array = read_page(handle, page, (page.dataoffsets, page.databytecounts, page.jpegtables), inner, Recent(0), 0)
    if box.ndim == 3 and not planar:
        array = np.moveaxis(array, -1, 0)
    return np.ascontiguousarray(array, dtype=dtype)


def read_image(file: Path, ndim: int) -> NDArray[Any]:
    """The whole of a PNG or JPEG file, channels first; FileNotFoundError where there is none."""
    if not os.path.exists(file):
        raise FileNotFoundError(file)
    array = np.asarray(iio.imread(file))
    return np.moveaxis(array, -1, 0) if ndim == 3 else array


def put_file(file: Path, data: bytes) -> None:
    """Write ``file`` in one step. What a kill leaves behind has a fixed name, so the rerun takes it away."""
    beside = file.with_name(f".{file.name}.part")
    with open(beside, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(beside, file)


def encode(section: NDArray[Any], suffix: str) -> bytes:
    """A section as a compressed file; the same section gives the same bytes."""
    if suffix == ".png":
        return bytes(iio.imwrite("<bytes>", section, extension=".png", compress_level=4))
    buffer = io.BytesIO()
    predictor = section.dtype.kind in "iu"
    tifffile.imwrite(
        buffer, section, compression="zlib", predictor=predictor, photometric="minisblack", metadata=None, software=""
    )
    return buffer.getvalue()


def _check(plan: Plan, suffix: str) -> None:
    axes = "".join(plan.meta.axes)
    if axes != "zyx":
        raise UserError(f"a folder of sections holds the axes zyx, not {axes}; write a .zarr")
    if len(plan.factors) > 1:
        raise UserError(
            f"a folder of sections holds no mips, {len(plan.factors)} were asked for; ask for 1, or write a .zarr"
        )
    if plan.box.start[0] < 0:
        raise UserError(
            f"sections are named by their z, which starts at {plan.box.start[0]} here; shift it to 0 or more"
        )
    if plan.dtype.name not in DTYPES[suffix]:
        raise UserError(
            f"{suffix} files do not hold {plan.dtype}; they hold {', '.join(DTYPES[suffix])}; convert, or write a .zarr"
        )
