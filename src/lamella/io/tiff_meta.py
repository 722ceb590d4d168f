"""What TIFF files say of themselves: OME-XML, ImageJ's description, and lamella's record inside the OME description."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np

from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io.plan import KEY, Plan, recorded
from lamella.io.store import drop_singletons
from lamella.io.units import long_unit, short_unit

_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")


def ome_metadata(plan: Plan, path: str) -> dict[str, Any]:
    """The metadata of a new OME-TIFF, in tifffile's words; refuses what OME has no place for."""
    axes = "".join(plan.meta.axes)
    if not axes.endswith("yx") or "n" in axes:
        raise UserError(
            f"TIFF stacks hold y x with z, c and t before them; the axes here are {axes}; write a .h5 or .zarr"
        )
    if plan.dtype.name not in _DTYPES:
        raise UserError(
            f"OME-TIFF does not hold {plan.dtype}; it holds {', '.join(_DTYPES)}; convert, or write a .zarr"
        )
    record = json.dumps({KEY: plan.record()})
    found: dict[str, Any] = {"axes": axes.upper(), "Name": plan.meta.name or "image", "Description": record}
    for axis, size, unit in zip(axes, plan.meta.voxel_size, plan.meta.units, strict=True):
        if axis in "zyx":
            found[f"PhysicalSize{axis.upper()}"] = size
            found[f"PhysicalSize{axis.upper()}Unit"] = short_unit(unit) if unit else "pixel"
    if plan.meta.channel_names:
        found["Channel"] = {"Name": list(plan.meta.channel_names)}
    # OME wants a name unique to the file; this one is the same for the same content, so a rerun gives the same bytes.
    found["UUID"] = str(uuid.uuid5(uuid.NAMESPACE_URL, record))
    return found


def stored_record(handle: Any) -> Mapping[str, Any] | None:
    """lamella's record in the file, None if another program wrote it."""
    if not handle.is_ome:
        return None
    text = _find(_xml(handle), "Description")
    try:
        found = json.loads(text.text or "") if text is not None else None
    except ValueError:
        return None
    return found.get(KEY) if isinstance(found, dict) else None


def series_meta(handle: Any, number: int) -> tuple[Meta, str]:
    """Metadata of a series, and one of our letters for each of its stored axes.

    Colour samples are channels; a sequence whose meaning the file does not tell is z.
    """
    series = handle.series[number]
    axes = _letters(series.axes, series.shape, handle.filename)
    ordered = tuple(sorted(axes, key="ntczyx".find))
    if handle.is_ome:
        meta = _ome_meta(handle, number, ordered)
    elif handle.is_imagej:
        meta = _imagej_meta(handle, ordered)
    else:
        meta = Meta.plain(ordered)
    ours = recorded(stored_record(handle))
    if ours is not None and set(ours.meta.axes) <= set(axes):
        keep = [ordered.index(a) for a in ours.meta.axes]
        size, units = tuple(meta.voxel_size[i] for i in keep), tuple(meta.units[i] for i in keep)
        spatial = [a in "zyx" for a in ours.meta.axes]
        return Meta(
            ours.meta.axes,
            tuple(s if k else v for s, v, k in zip(size, ours.meta.voxel_size, spatial, strict=True)),
            tuple(u if k else v for u, v, k in zip(units, ours.meta.units, spatial, strict=True)),
            meta.channel_names or ours.meta.channel_names,
            ours.meta.name,
            ours.meta.translation,
            ours.meta.provenance,
        ), axes
    shape = [series.shape[axes.index(a)] for a in ordered]
    return drop_singletons(meta, shape), axes


def _letters(axes: str, shape: tuple[int, ...], path: str) -> str:
    found: list[str] = []
    for axis, length in zip(axes, shape, strict=True):
        letter = axis.lower() if axis in "TCZYX" else "c" if axis == "S" else "z"
        if axis not in "TCZYXSIQ" or letter in found or (letter != axis.lower() and letter.upper() in axes):
            raise UserError(
                f"{path} has axes {axes} with shape {shape}; lamella reads T C Z Y X and colour samples; convert it"
            )
        assert length > 0
        found.append(letter)
    return "".join(found)


def _xml(handle: Any) -> ElementTree.Element:
    return ElementTree.fromstring(handle.ome_metadata)


def _find(root: ElementTree.Element, tag: str, number: int = 0) -> ElementTree.Element | None:
    found = [e for e in root.iter() if e.tag.rsplit("}", 1)[-1] == tag]
    return found[number] if number < len(found) else None


def _ome_meta(handle: Any, number: int, axes: tuple[str, ...]) -> Meta:
    image = _find(_xml(handle), "Image", number)
    pixels = _find(image, "Pixels") if image is not None else None
    if image is None or pixels is None:
        return Meta.plain(axes)
    size = {a: float(pixels.get(f"PhysicalSize{a.upper()}", 1)) for a in "zyx"}
    # OME's default unit is the micrometre, where a size is given
    unit = {
        a: long_unit(pixels.get(f"PhysicalSize{a.upper()}Unit", "µm"))
        if f"PhysicalSize{a.upper()}" in pixels.attrib
        else ""
        for a in "zyx"
    }
    if "TimeIncrement" in pixels.attrib:
        size["t"], unit["t"] = float(pixels.attrib["TimeIncrement"]), long_unit(pixels.get("TimeIncrementUnit", "s"))
    names = tuple(e.get("Name", "") for e in pixels if e.tag.endswith("}Channel"))
    return Meta(
        axes,
        tuple(size.get(a, 1.0) for a in axes),
        tuple(unit.get(a, "") for a in axes),
        names if any(names) else (),
        image.get("Name", ""),
    )


def _imagej_meta(handle: Any, axes: tuple[str, ...]) -> Meta:
    """ImageJ stores pixels per unit in the resolution tags, and the spacing of sections and its unit in the description."""
    found = handle.imagej_metadata or {}
    unit = long_unit(found.get("unit"))
    tags = handle.pages[0].tags
    size = {"z": float(found.get("spacing", 1.0)), "t": float(found.get("finterval", 1.0))}
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        top, bottom = tags[tag].value if tag in tags else (1, 1)
        size[axis] = float(np.float64(bottom) / top) if unit and top else 1.0
    units = {"z": unit, "y": unit, "x": unit, "t": "second" if "finterval" in found else ""}
    return Meta(
        axes, tuple(size.get(a, 1.0) if unit or a == "t" else 1.0 for a in axes), tuple(units.get(a, "") for a in axes)
    )
