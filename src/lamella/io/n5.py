"""N5: pyramids of arrays ``s0``, ``s1``, ... in a group, and single arrays.

N5 names the fastest axis first, so its ``x y z`` is our ``z y x``. Voxel sizes are read from where the common writers put them: the
group's ``pixelResolution`` with ``downsamplingFactors`` (or ``scales``), or an array's ``transform``, ``resolution`` or
``pixelResolution``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io.base import full_disk_explained
from lamella.io.contents import Contents, Dataset, built_beside
from lamella.io.place import Place
from lamella.io.plan import KEY, Plan, meta_at, recorded
from lamella.io.store import create_array, drop_singletons, store_volume
from lamella.io.units import long_unit, short_unit

_ATTRIBUTES = "attributes.json"
_AXES = "xyzct"  # N5 order; the first as many as there are dimensions
_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
_DEPTH = 6


@dataclass(frozen=True)
class _Pyramid:
    """An image: its group's attributes, and its arrays from fine to coarse (path below the group, attributes)."""

    group: Mapping[str, Any]
    levels: tuple[tuple[str, Mapping[str, Any]], ...]


class N5:
    """N5 containers."""

    kinds = ("n5",)
    suffixes = (".n5",)
    label = "N5 folder (.n5)"

    def contents(self, place: Place) -> Contents | None:
        attributes = place.read_json(_ATTRIBUTES)
        image = _pyramid(place, attributes)
        if image is not None:
            return Contents("N5", {"": _dataset(place, image)})
        if attributes is None or "n5" not in attributes:
            return None
        if place.local is None:
            raise UserError(
                f"{place.url} is an N5 container, whose arrays cannot be listed over this address; add the path of one"
            )
        found = {name: _dataset(place / name, image) for name, image in _walk(place, "", _DEPTH)}
        if not found:
            raise UserError(f"{place.url} is an N5 container in which no array was found; give one that has arrays")
        return Contents("N5 container", dict(sorted(found.items())))

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        _check(plan)
        with full_disk_explained(place.url), built_beside(place) as beside:
            for k, (box, chunk) in enumerate(zip(plan.boxes, plan.chunks, strict=True)):
                metadata = _metadata(box.shape, chunk, plan, plan.metas[k])
                create_array({"driver": "n5", "kvstore": (beside / f"s{k}").kvstore, "metadata": metadata}, place.url)
            beside.write_json(_ATTRIBUTES, _group(plan))


def _pyramid(place: Place, attributes: Mapping[str, Any] | None) -> _Pyramid | None:
    if attributes is not None and "dimensions" in attributes:
        return _Pyramid({}, (("", attributes),))
    levels: list[tuple[str, Mapping[str, Any]]] = []
    while (found := place.read_json(f"s{len(levels)}/{_ATTRIBUTES}")) is not None and "dimensions" in found:
        levels.append((f"s{len(levels)}", found))
    return _Pyramid(attributes or {}, tuple(levels)) if levels else None


def _walk(place: Place, below: str, depth: int) -> Iterator[tuple[str, _Pyramid]]:
    assert place.local
    for entry in sorted(os.scandir(place.local / below), key=lambda e: e.name):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        child = f"{below}/{entry.name}".lstrip("/")
        image = _pyramid(place / child, (place / child).read_json(_ATTRIBUTES))
        if image is not None:
            yield child, image
        elif depth > 1:
            yield from _walk(place, child, depth - 1)


def _dataset(place: Place, image: _Pyramid) -> Dataset:
    return Dataset(len(image.levels), partial(_open_level, place, image))


def _open_level(place: Place, image: _Pyramid, mip: int, writable: bool) -> Volume:
    path, array = image.levels[mip]
    ndim = len(array["dimensions"])
    if ndim > len(_AXES):
        raise UserError(f"{place.url} has {ndim} dimensions; lamella reads arrays of 1 to {len(_AXES)}")
    ours = recorded(image.group.get(KEY))
    if ours is not None and mip < len(ours.factors):
        start: Sequence[int] | None = ours.box.scale(ours.factors[mip]).start
        meta, stored = meta_at(ours.meta, ours.factors[mip]), ours.meta.axes[::-1]
    else:
        start, stored = None, tuple(_AXES[:ndim])
        meta = drop_singletons(_foreign_meta(place.name, image, mip), array["dimensions"][::-1])
    spec = {"driver": "n5", "kvstore": (place / path).kvstore}
    volume = store_volume(place / path, spec, stored, meta, start=start, writable=writable)
    volume.header = replace(volume.header, path=place.url)
    return volume


def _foreign_meta(name: str, image: _Pyramid, mip: int) -> Meta:
    """Voxel size from the array's own attributes, else from the group's; in our order."""
    _, array = image.levels[mip]
    axes = _AXES[: len(array["dimensions"])]
    size, units, moved = _array_scale(array)
    if not size:
        group = image.group.get("pixelResolution", {})
        finest = group.get("dimensions", group) if isinstance(group, Mapping) else group
        factors = image.group.get("downsamplingFactors") or image.group.get("scales") or []
        factor = factors[mip] if mip < len(factors) else [1] * len(axes)
        size = [s * f for s, f in zip(finest or [1.0] * len(factor), factor, strict=False)]
        units = [group.get("unit", "")] * len(size) if isinstance(group, Mapping) else []

    def pad(values: Sequence[Any], fill: Any) -> tuple[Any, ...]:
        return tuple([*values, *[fill] * (len(axes) - len(values))][: len(axes)][::-1])

    names = tuple(long_unit(u) for u in pad(units, ""))
    lies = pad(moved, 0.0)
    return Meta(tuple(axes[::-1]), pad(_floats(size), 1.0), names, name=name, translation=lies if any(lies) else ())


def _array_scale(array: Mapping[str, Any]) -> tuple[list[float], list[str], list[float]]:
    """Voxel size, units and position in N5's order, empty where an array does not tell."""
    transform = array.get("transform")
    if isinstance(transform, Mapping) and "scale" in transform:  # in the order of its own axes, usually z y x
        names = [str(a).lower() for a in transform.get("axes", "zyx")]
        order = sorted(range(len(names)), key=lambda i: _AXES.find(names[i]))
        zero, none = [0.0] * len(names), [""] * len(names)
        units, moved = transform.get("units", none), transform.get("translate", zero)
        return _floats(transform["scale"], order), [units[i] for i in order], _floats(moved, order)
    if "resolution" in array:
        return _floats(array["resolution"]), list(array.get("units", [])), []
    found = array.get("pixelResolution")
    if isinstance(found, Mapping) and "dimensions" in found:
        return _floats(found["dimensions"]), [found.get("unit", "")] * len(found["dimensions"]), []
    return [], [], []


def _floats(values: Sequence[float | int], order: Sequence[int] | None = None) -> list[float]:
    return [float(values[i]) for i in (range(len(values)) if order is None else order)]


def _check(plan: Plan) -> None:
    axes = "".join(plan.meta.axes)
    if plan.dtype.name not in _DTYPES:
        raise UserError(f"N5 does not hold {plan.dtype}; it holds {', '.join(_DTYPES)}; convert, or write a .zarr")
    if axes not in ("yx", "zyx", "czyx", "tczyx", "nzyx"):
        raise UserError(f"N5 is written with the axes yx, zyx, czyx, tczyx or nzyx, not {axes}; write a .zarr")


def _metadata(shape: Sequence[int], chunk: Sequence[int], plan: Plan, meta: Meta) -> dict[str, Any]:
    return {
        "dimensions": shape[::-1],
        "blockSize": chunk[::-1],
        "dataType": plan.dtype.name,
        # gzip is what every reader of N5 has; on EM sections level 5 is no smaller (0.976 of raw either way) and 5 % slower
        "compression": {"type": "gzip", "level": 1},
        "axes": meta.axes[::-1],
        "resolution": meta.voxel_size[::-1],
        "units": [short_unit(u) for u in meta.units[::-1]],
    }


def _group(plan: Plan) -> dict[str, Any]:
    spatial = [i for i, a in enumerate(plan.meta.axes) if a in "zyx"][::-1]
    units = {plan.meta.units[i] for i in spatial}
    unit = short_unit(units.pop()) if len(units) == 1 else ""
    return {
        "n5": "2.5.1",
        "pixelResolution": {"unit": unit or "pixel", "dimensions": [plan.meta.voxel_size[i] for i in spatial]},
        "downsamplingFactors": [[f[i] for i in spatial] for f in plan.factors],
        KEY: plan.record(),
    }
