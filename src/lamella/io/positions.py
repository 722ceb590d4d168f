"""Experiments of several positions (fields of view): folders of frames and OME-Zarr plates, and how their names match.

| frames | plate |
|---|---|
| position 3, no name | field ``A/1/3`` |
| position 3, ``position_name`` ``B/2/0`` in the table | field ``B/2/0`` |

So each can become the other and come back. What a plate says of itself (name, acquisitions, empty rows) is kept in the frames' record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io.folders import RECORD
from lamella.io.frames import (
    FRAMES,
    PLATE,
    Frames,
    create_frames,
    find_table,
    folder_of,
    listed_frames,
    position_names,
    suffix_of,
)
from lamella.io.frames_names import POSITION_NAME
from lamella.io.frames_table import position_name
from lamella.io.open import contents_of, format_for, make_room, open_volume
from lamella.io.place import Place
from lamella.io.plan import Plan
from lamella.io.plate import VERSIONS, Plate, create_plate, described_plate


def positions_of(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the positions at ``path``, for ``open_volume(path, dataset=name)``; none if it is no such experiment."""
    found = contents_of(Place.parse(path))
    return found.positions if found else ()


def open_positions(path: str | os.PathLike[str]) -> dict[str, Volume]:
    """The volumes of all positions at ``path``, or of the only volume under an empty name; the folder is looked through once."""
    place = Place.parse(path)
    found = contents_of(place)
    if found is None or not found.positions:
        return {"": open_volume(path)}
    return {name: found.datasets[name].open(0, False) for name in found.positions}


def layout_of(path: str, kind: str | None, count: int) -> str | None:
    """Whether ``path`` will be ``"frames"`` or a ``"plate"``, as its name or ``kind`` tell; several positions make a .zarr a plate."""
    format_, _ = format_for(Place.parse(path), kind)
    if isinstance(format_, Frames):
        return "frames"
    several = count > 1 and kind is None and "ome-zarr" in format_.kinds
    return "plate" if isinstance(format_, Plate) or several else None


def create_positions(
    path: str,
    plans: Mapping[str, Plan],
    *,
    kind: str | None = None,
    overwrite: bool = False,
    plate: Mapping[str, Any] | None = None,
) -> None:
    """An empty folder of frames (positions ``p003``, axes ``t c z y x``) or plate (fields ``A/1/0``) with these positions.

    ``plate`` is what ``plate_told`` gave of the source. Open the positions with ``open_volume(path, dataset=name, writable=True)``.
    """
    place = Place.parse(path)
    make_room(place, overwrite)
    if layout_of(path, kind, len(plans)) == "frames":
        _, told = format_for(place, kind)
        create_frames(place, {int(n[1:]): p for n, p in plans.items()}, suffix_of(place, told), plate)
    else:
        create_plate(place, plans, VERSIONS.get(kind or "plate", "0.5"), plate)


def plate_told(path: str) -> dict[str, Any] | None:
    """What the plate at ``path``, or the one that its frames were made from, says of itself."""
    place = Place.parse(path)
    folder = folder_of(place)
    if folder is not None and find_table(folder) is not None:
        return (Place(str(folder)).read_json(RECORD) or {}).get(PLATE)
    return described_plate(place)


def renamed(path: str, names: Sequence[str], layout: str) -> dict[str, str]:
    """For each position of ``path`` its name in the other ``layout``."""
    table = find_table(Place.parse(path).local)
    if layout == "plate":
        given = position_names(table) if table else {}
        fields = [given.get(_number(n, i), f"A/1/{_number(n, i)}") if "/" not in n else n for i, n in enumerate(names)]
    else:
        wells = {n.rpartition("/")[0] for n in names}
        plain = len(wells) == 1 and all(n.rpartition("/")[2].isdigit() for n in names)
        fields = [
            position_name(int(n.rpartition("/")[2]) if plain and "/" in n else _number(n, i))
            for i, n in enumerate(names)
        ]
    if len(set(fields)) < len(fields):
        raise UserError(
            f"positions {', '.join(names)} of {path} would become {', '.join(fields)}; give each its own name"
        )
    return dict(zip(names, fields, strict=True))


def _number(name: str, order: int) -> int:
    return int(name[1:]) if name[:1] == "p" and name[1:].isdigit() else order


def with_position_name(meta: Meta, name: str, places: Sequence[tuple[int, int, int]]) -> Meta:
    """``meta`` whose list of frames has the column ``position_name``; ``places`` are the (t, c, z) of all that may exist."""
    found = listed_frames(meta)
    rows, columns = found if found else ([list(p) for p in places], ())
    if "/" not in name or POSITION_NAME in columns:
        return meta
    listed = {"columns": ["t", "c", "z", *columns, POSITION_NAME], "rows": [[*row, name] for row in rows]}
    return replace(meta, provenance={**meta.provenance, FRAMES: listed})
