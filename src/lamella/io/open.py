"""Open, create and describe volumes of any format. A new format is one file and one entry in ``FORMATS``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import refuse_existing
from lamella.core.volume import Meta, Volume
from lamella.io.contents import Contents, Format, pick
from lamella.io.folders import RECORD, Folder
from lamella.io.frames import Frames, find_table
from lamella.io.hdf5 import Hdf5
from lamella.io.n5 import N5
from lamella.io.picture import Picture
from lamella.io.place import Place
from lamella.io.plan import make_plan
from lamella.io.plate import Plate
from lamella.io.precomputed import Precomputed
from lamella.io.tiff import TiffStack
from lamella.io.zarr import Zarr

FORMATS: tuple[Format, ...] = (
    Plate(),
    Zarr(),
    N5(),
    Precomputed(),
    Hdf5(),
    TiffStack(),
    Picture(),
    Frames(),
    Folder(),
)


def open_volume(
    path: str | os.PathLike[str], *, mip: int = 0, dataset: str | None = None, writable: bool = False
) -> Volume:
    """The volume at ``path``, a file, folder or URL, at one of its mips.

    Axes are read as ``z y x`` (``c z y x`` with channels, ``n z y x`` in stack archives), whatever order the format keeps.
    ``dataset`` picks one of several in a file; the error names them. ``writable`` opens what ``create_volume`` made, to go on
    with a job that was interrupted.
    """
    place, contents, dataset = find(path, dataset)
    _, chosen = pick(contents, place, dataset)
    if not 0 <= mip < chosen.num_mips:
        there = "only mip 0" if chosen.num_mips == 1 else f"mips 0 to {chosen.num_mips - 1}"
        raise UserError(f"mip {mip} does not exist in {place.url}, which has {there}; choose one of those")
    return chosen.open(mip, writable)


def create_volume(
    path: str | os.PathLike[str],
    *,
    box: Box,
    dtype: Any,
    meta: Meta,
    chunk: tuple[int, ...] | None = None,
    mips: int | Sequence[Sequence[int]] = 1,
    kind: str | None = None,
    overwrite: bool = False,
) -> list[Volume]:
    """Create an empty volume and return it opened for writing, one volume per mip, mip 0 first.

    The format follows from the name (``.zarr`` OME-Zarr 0.5, ``.n5``, ``.h5``, ``.tif``, ``folder/*.png``, ``folder/*.tif``,
    ``precomputed://…``) or from ``kind``. ``box``, ``meta`` and ``chunk`` are those of mip 0. ``mips`` is a count, each mip halving
    y and x, or the factors of each mip from the first: ``[(1, 1, 1), (2, 2, 2)]``. Nothing there is replaced unless ``overwrite``.
    """
    place = Place.parse(path)
    format_, kind = format_for(place, kind)
    plan = make_plan(box, dtype, meta, chunk, mips)
    make_room(place, overwrite)
    format_.create(place, plan, kind)
    return [open_volume(path, mip=k, writable=True) for k in range(len(plan.factors))]


def find(path: str | os.PathLike[str], dataset: str | None) -> tuple[Place, Contents, str | None]:
    """What is at ``path``. A path that goes on inside a file or a folder of frames, ``stacks.h5/main``, names the data set."""
    place = Place.parse(path)
    found = contents_of(place)
    if found is not None:
        return place, found, dataset
    inner = _inside_file(place)
    if inner is not None and dataset is None:
        file, name = inner
        found = contents_of(file)
        if found is not None:
            return file, found, name
    raise UserError(_no_volume(place))


def contents_of(place: Place) -> Contents | None:
    """What the first format that knows the place finds there."""
    formats = [f for f in FORMATS if not place.prefix or any(k.endswith(place.prefix) for k in f.kinds)]
    return next((c for c in (f.contents(place) for f in formats) if c is not None), None)


def _is_volume(place: Place) -> bool:
    """Whether a format knows what is there, be it damaged."""
    try:
        return contents_of(place) is not None
    except UserError:
        return True


def _inside_file(place: Place) -> tuple[Place, str] | None:
    if place.local is None:
        return None
    for parent in place.local.parents:
        if parent.is_file():
            return Place(str(parent)), str(place.local.relative_to(parent))
    if not place.local.exists() and find_table(place.local.parent) is not None:
        return Place(str(place.local.parent)), place.local.name
    return None


def _no_volume(place: Place) -> str:
    kinds = ", ".join(f.label for f in FORMATS)
    local = place.local
    if local is None:
        return f"{place.url} holds no volume that lamella reads ({kinds}); check the address"
    if not local.exists():
        parent = next(p for p in local.absolute().parents if p.exists())
        there = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
        near = difflib.get_close_matches(local.name, there, n=1) if parent == local.absolute().parent else []
        hint = f"did you mean {local.with_name(near[0])}?" if near else f"the nearest folder there is {parent}"
        return f"{local} does not exist; {hint}"
    return f"{local} is no volume that lamella reads ({kinds}); {_nearest(local)}"


def _nearest(local: Path) -> str:
    """What lies around a path that is no volume."""
    if local.is_file():
        return f"it is a file ending in {local.suffix!r}" if local.suffix else "it is a file of an unknown kind"
    below = [p for p in sorted(local.iterdir())[:50] if not p.name.startswith(".") and _is_volume(Place(str(p)))]
    if below:
        return f"it holds {', '.join(str(p) for p in below[:5])}; give one of those"
    names = [p.name for p in sorted(local.iterdir())[:5]]
    return f"it is a folder that holds {', '.join(names) or 'nothing'}"


def format_for(place: Place, kind: str | None) -> tuple[Format, str]:
    """The format in which a volume of this name is created, and by which of its kinds."""
    kinds = {k: f for f in FORMATS for k in f.kinds}
    wanted = kind or place.prefix
    if wanted:
        wanted = "ome-zarr" if wanted == "zarr" else wanted
        if wanted not in kinds:
            raise UserError(f"kind {wanted!r} is not one of {', '.join(kinds)}; choose one of those")
        return kinds[wanted], wanted
    endings = sorted(((s, f) for f in FORMATS for s in f.suffixes), key=lambda e: -len(e[0]))  # *.tif before .tif
    for suffix, format_ in endings:
        if place.name.lower().endswith(suffix):
            return format_, "tiff-folder" if "*.tif" in suffix else format_.kinds[0]
    raise UserError(
        f"the name {place.url} does not tell its format; end it in one of {', '.join(s for s, _ in endings)}, or name a kind: {', '.join(kinds)}"
    )


def make_room(place: Place, overwrite: bool) -> None:
    """Refuse what exists, unless it is a volume and may be replaced. The format replaces it when the new one is ready."""
    if place.local is not None:
        target = place.local.parent if "*" in place.local.name else place.local
        if target.is_dir() and not any(target.iterdir()):
            return
        refuse_existing(target, overwrite=overwrite)
        if target.exists() and not _replaceable(target):
            raise UserError(
                f"{target} is not overwritten, since lamella does not know it as its own; remove it or choose another name"
            )
    elif contents_of(place) is not None:
        if not overwrite:
            raise UserError(f"output {place.url} exists already; choose another name, or replace it with --overwrite")
        place.clear()


_MARKS = ("zarr.json", ".zgroup", ".zarray", "attributes.json", "info", RECORD)


def _replaceable(target: Path) -> bool:
    """Whether a path is surely a volume, and not for example a folder of someone's work with some images in it."""
    return any((target / m).is_file() for m in _MARKS) if target.is_dir() else _is_volume(Place(str(target)))
