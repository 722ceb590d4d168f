"""OME-Zarr metadata (versions 0.4 and 0.5) as plain JSON: read into, and written from, names, sizes and units.

Units are UDUNITS names, as OME-Zarr asks for ("nanometer"). Where an image gives scales both for the whole pyramid and for each
level, the level's comes first and the pyramid's after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.core.errors import UserError
from lamella.core.volume import Meta

_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_COLOURS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


@dataclass(frozen=True)
class Level:
    """One mip: where its array lies, its voxel size and where its first voxel lies; None in versions that did not say."""

    path: str
    scale: tuple[float, ...] | None
    translation: tuple[float, ...]


@dataclass(frozen=True)
class Image:
    """One multiscale image."""

    axes: tuple[str, ...]
    units: tuple[str, ...]
    levels: tuple[Level, ...]
    name: str


def read_image(image: Mapping[str, Any], path: str) -> Image:
    """One entry of ``multiscales``; axes default to the ``t c z y x`` of versions before 0.3."""
    entries = [a if isinstance(a, dict) else {"name": a} for a in image.get("axes", "tczyx")]
    axes = tuple(str(a["name"]).lower() for a in entries)
    if len(set(axes)) != len(axes) or any(len(a) != 1 or a not in "ntczyx" for a in axes):
        raise UserError(f"{path} has axes {axes}; lamella reads the axes t c z y x")
    whole = image.get("coordinateTransformations", [])
    levels = tuple(_level(d, whole, len(axes)) for d in image["datasets"])
    return Image(axes, tuple(a.get("unit") or "" for a in entries), levels, str(image.get("name") or ""))


def _level(dataset: Mapping[str, Any], whole: Sequence[Mapping[str, Any]], ndim: int) -> Level:
    steps = [*dataset.get("coordinateTransformations", []), *whole]
    scale, translation = np.ones(ndim), np.zeros(ndim)
    for step in steps:
        if "scale" in step:
            scale, translation = scale * step["scale"], translation * step["scale"]
        elif "translation" in step:
            translation = translation + step["translation"]
    return Level(dataset["path"], tuple(scale.tolist()) if steps else None, tuple(translation.tolist()))


def channel_names(omero: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The labels of the channels, empty if none is given."""
    names = tuple(str(c.get("label") or "") for c in (omero or {}).get("channels", []))
    return names if any(names) else ()


def image_json(metas: Sequence[Meta], starts: Sequence[Sequence[int]], paths: Sequence[str]) -> dict[str, Any]:
    """One entry of ``multiscales`` (without version): ``starts`` are the first voxels of the mips."""
    first = metas[0]
    datasets = []
    for meta, start, path in zip(metas, starts, paths, strict=True):
        moved = meta.translation or (0.0,) * len(meta.axes)
        origin = [t + s * v for t, s, v in zip(moved, start, meta.voxel_size, strict=True)]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(meta.voxel_size)}]
        if any(origin):
            steps.append({"type": "translation", "translation": origin})
        datasets.append({"path": path, "coordinateTransformations": steps})
    axes = [_axis_json(a, u) for a, u in zip(first.axes, first.units, strict=True)]
    return {"name": first.name, "axes": axes, "datasets": datasets}


def _axis_json(axis: str, unit: str) -> dict[str, str]:
    kind = {"type": _TYPES[axis]} if axis in _TYPES else {}
    return {"name": axis, **kind, **({"unit": unit} if unit else {})}


def omero_json(names: Sequence[str], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Channel names in the form that viewers read."""
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (0, 1)
    window = {"min": float(low), "max": float(high), "start": float(low), "end": float(high)}
    return {
        "channels": [
            {
                "label": n,
                "color": _COLOURS[i % len(_COLOURS)] if len(names) > 1 else "FFFFFF",
                "active": True,
                "window": window,
            }
            for i, n in enumerate(names)
        ]
    }
