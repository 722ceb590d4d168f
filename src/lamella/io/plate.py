"""OME-Zarr plates (HCS, versions 0.4 and 0.5): rows and columns of wells, fields of view in each.

Each field is a data set named by its path, ``A/1/0``, in the order in which the plate and its wells list them; ``plate.zarr/A/1/0``
names one too. Fields are written as OME-Zarr images of their own, so other readers find them as such.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lamella.core.errors import UserError
from lamella.io.base import full_disk_explained
from lamella.io.contents import Contents, Dataset, built_beside
from lamella.io.folders import natural
from lamella.io.place import Place
from lamella.io.plan import Plan
from lamella.io.zarr import Node, Zarr, nested, node_at, write_group

VERSIONS = {"plate": "0.5", "plate-0.5": "0.5", "plate-0.4": "0.4"}


class Plate:
    """OME-Zarr plates."""

    kinds = tuple(VERSIONS)
    suffixes: tuple[str, ...] = ()
    label = "OME-Zarr plate"

    def contents(self, place: Place) -> Contents | None:
        node = node_at(place)
        plate = plate_of(node)
        if node is None or plate is None:
            return None
        datasets: dict[str, Dataset] = {}
        for well in plate.get("wells", []):
            for field in _fields(place, str(well["path"])):
                datasets |= _dataset(place, field)
        if not datasets:
            raise UserError(f"{place.url} is a plate without a field of view; it is incomplete")
        version = plate.get("version") or _told(node).get("version") or "0.4"
        return Contents(f"OME-Zarr {version} plate (zarr {node.version})", datasets, positions=tuple(datasets))

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        create_plate(place, {"A/1/0": plan}, VERSIONS[kind])


def _told(node: Node) -> Mapping[str, Any]:
    """The attributes that OME-Zarr defines, wherever this version keeps them."""
    found = node.attributes.get("ome", node.attributes)
    return found if isinstance(found, Mapping) else {}


def plate_of(node: Node | None) -> Mapping[str, Any] | None:
    """What a group says of the plate that it is; None if it is none."""
    if node is None or node.is_array:
        return None
    plate = _told(node).get("plate")
    return plate if isinstance(plate, Mapping) else None


def _fields(place: Place, well: str) -> list[str]:
    node = node_at(place / well)
    told = _told(node).get("well") if node else None
    if not isinstance(told, Mapping):
        raise UserError(f"{place.url} lists the well {well}, which is not there; the plate is incomplete")
    return [f"{well}/{image['path']}" for image in told.get("images", [])]


def _dataset(place: Place, field: str) -> Mapping[str, Dataset]:
    found = nested(place, field)
    if not found:
        raise UserError(f"{place.url} lists the field {field}, which holds no image; the plate is incomplete")
    return found


# Writing


def create_plate(
    place: Place, plans: Mapping[str, Plan], version: str = "0.5", plate: Mapping[str, Any] | None = None
) -> None:
    """An empty plate with the fields ``plans``, each under ``ROW/COLUMN/FIELD``.

    ``plate`` is what a plate said of itself that these fields come from; its name, acquisitions and order of rows are kept.
    """
    for path in plans:
        if not re.fullmatch(r"[A-Za-z0-9]+/[A-Za-z0-9]+/[A-Za-z0-9]+", path):
            raise UserError(f"field {path!r} of a plate must be ROW/COLUMN/FIELD in letters and digits, as A/1/0")
    zarr = 2 if version == "0.4" else 3
    with full_disk_explained(place.url), built_beside(place) as beside:
        for path, plan in plans.items():
            Zarr().create(beside / path, plan, f"ome-zarr-{version}")
        wells = _wells(plans)
        for well, fields in wells.items():
            images = _images(fields, well, plate)
            write_group(beside / well, zarr, _attributes({"well": {"images": images}}, version))
            write_group(beside / well.split("/")[0], zarr, {})
        told = _plate_json(wells, plate, max(len(f) for f in wells.values()))
        write_group(beside, zarr, _attributes({"plate": {**told, "version": version}}, version))


def _wells(plans: Mapping[str, Plan]) -> dict[str, list[str]]:
    wells: dict[str, list[str]] = {}
    for path in plans:
        well, _, field = path.rpartition("/")
        wells.setdefault(well, []).append(field)
    return wells


def _images(fields: Sequence[str], well: str, plate: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The well's list of fields, with the acquisition of each where the original said it."""
    acquired = (plate or {}).get("field_acquisitions", {})
    found = {field: acquired.get(f"{well}/{field}") for field in fields}
    return [{"path": f, **({} if a is None else {"acquisition": a})} for f, a in found.items()]


def _plate_json(wells: Mapping[str, Any], plate: Mapping[str, Any] | None, fields: int) -> dict[str, Any]:
    old = dict(plate or {})
    old.pop("field_acquisitions", None)
    old.pop("version", None)
    rows = _names(old.get("rows"), [w.split("/")[0] for w in wells])
    columns = _names(old.get("columns"), [w.split("/")[1] for w in wells])
    listed = [
        {"path": w, "rowIndex": rows.index(w.split("/")[0]), "columnIndex": columns.index(w.split("/")[1])}
        for w in wells
    ]
    return {
        "name": "plate",
        **old,
        "rows": [{"name": n} for n in rows],
        "columns": [{"name": n} for n in columns],
        "wells": listed,
        "field_count": fields,
    }


def _names(listed: Sequence[Mapping[str, Any]] | None, used: Sequence[str]) -> list[str]:
    """The plate's own names of rows or columns, then those that it lacks, in natural order."""
    known = [str(entry["name"]) for entry in listed or ()]
    return known + sorted({n for n in used if n not in known}, key=natural)


def _attributes(told: dict[str, Any], version: str) -> dict[str, Any]:
    if version == "0.4":
        return {key: {**value, "version": version} for key, value in told.items()}
    return {"ome": {"version": version, **told}}


def described_plate(place: Place) -> dict[str, Any] | None:
    """What a plate says of itself, with the acquisition of each field, to be kept by what is made from it."""
    plate = plate_of(node_at(place))
    if plate is None:
        return None
    acquired: dict[str, Any] = {}
    for well in plate.get("wells", []):
        node = node_at(place / str(well["path"]))
        for image in (_told(node).get("well") or {}).get("images", []) if node else []:
            if "acquisition" in image:
                acquired[f"{well['path']}/{image['path']}"] = image["acquisition"]
    return {**plate, "field_acquisitions": acquired}
