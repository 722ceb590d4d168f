"""Neuroglancer precomputed volumes; their scales are our mips, their ``x y z channel`` our ``c z y x`` (``z y x`` for one channel).

Written unsharded: images raw, uint32 and uint64 as compressed segmentations. Sharded volumes and all encodings of TensorStore are
read. The voxel offset is the box's start. Resolutions are in nanometres.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io.base import full_disk_explained
from lamella.io.cloudfiles import CompressedFilesVolume
from lamella.io.contents import Contents, Dataset, built_beside
from lamella.io.place import Place
from lamella.io.plan import KEY, Plan, meta_at, recorded
from lamella.io.store import store_volume
from lamella.io.units import to_nm

_STORED = ("x", "y", "z", "c")
_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")
_TYPE = "neuroglancer_multiscale_volume"


class Precomputed:
    """Neuroglancer precomputed."""

    kinds = ("precomputed",)
    suffixes = (".precomputed",)
    label = "Neuroglancer precomputed folder (precomputed://)"

    def contents(self, place: Place) -> Contents | None:
        info = place.read_json("info")
        if info is None or ("scales" not in info and "@type" not in info):
            return None
        if info.get("@type", _TYPE) != _TYPE or not info.get("scales"):
            raise UserError(
                f"{place.url} is precomputed data of type {info.get('@type')}, not a volume; give the path of a volume"
            )
        return Contents(
            "Neuroglancer precomputed", {"": Dataset(len(info["scales"]), partial(_open_scale, place, info))}
        )

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        info = _info(plan)
        with full_disk_explained(place.url), built_beside(place) as beside:
            beside.write_json("info", info)


def _open_scale(place: Place, info: Mapping[str, Any], mip: int, writable: bool) -> Volume:
    spec = {"driver": "neuroglancer_precomputed", "kvstore": place.kvstore, "scale_index": mip}
    ours = recorded(info.get(KEY))
    if ours is not None and mip < len(ours.factors):
        meta, start = meta_at(ours.meta, ours.factors[mip]), ours.box.scale(ours.factors[mip]).start
        return store_volume(place, spec, _STORED, meta, start=start, writable=writable)
    volume = store_volume(place, spec, _STORED, _foreign_meta(place, info, mip), start=None, writable=writable)
    scale = info["scales"][mip]
    if place.local is None or scale.get("sharding"):
        return volume
    return CompressedFilesVolume(volume.header, spec, _STORED, place.local, scale)


def _foreign_meta(place: Place, info: Mapping[str, Any], mip: int) -> Meta:
    finest, here = (tuple(float(r) for r in info["scales"][k]["resolution"][::-1]) for k in (0, mip))
    many = int(info.get("num_channels", 1)) > 1
    axes = ("c", "z", "y", "x") if many else ("z", "y", "x")
    one, none = ((1.0,), ("",)) if many else ((), ())
    meta = Meta(axes, (*one, *finest), (*none, *("nanometer",) * 3), name=place.name)
    return meta_at(meta, (*one, *(h / f for h, f in zip(here, finest, strict=True))))


def _info(plan: Plan) -> dict[str, Any]:
    axes = "".join(plan.meta.axes)
    if not set(axes) <= set("czyx") or not axes.endswith("yx"):
        raise UserError(
            f"precomputed volumes hold y x with z and c before them; the axes here are {axes}; write a .zarr"
        )
    if plan.dtype.name not in _DTYPES:
        raise UserError(
            f"precomputed volumes do not hold {plan.dtype}; they hold {', '.join(_DTYPES)}; convert, or write a .zarr"
        )
    labels = plan.dtype.name in ("uint32", "uint64")
    scales = [_scale(plan, k, labels) for k in range(len(plan.factors))]
    if len({s["key"] for s in scales}) < len(scales):
        raise UserError(
            f"mips of factors {plan.factors} are not all different; precomputed volumes need different ones"
        )
    channels = axes.find("c")
    return {
        "@type": _TYPE,
        "type": "segmentation" if labels else "image",
        "data_type": plan.dtype.name,
        "num_channels": plan.box.shape[channels] if channels >= 0 else 1,
        "scales": scales,
        KEY: plan.record(),
    }


def _scale(plan: Plan, mip: int, labels: bool) -> dict[str, Any]:
    box, meta, chunk = plan.boxes[mip], plan.metas[mip], plan.chunks[mip]
    values: dict[str, tuple[float, int, int, int]] = dict.fromkeys("xyz", (1.0, 0, 1, 1))
    for i, axis in enumerate(meta.axes):
        values[axis] = (to_nm(meta.voxel_size[i], meta.units[i]), box.start[i], box.shape[i], chunk[i])
    resolution, offset, size, chunks = zip(*(values[a] for a in "xyz"), strict=True)
    scale = {
        "key": "_".join(f"{r:g}" for r in resolution),
        "resolution": resolution,
        "voxel_offset": offset,
        "size": size,
        "chunk_sizes": [chunks],
        "encoding": "compressed_segmentation" if labels else "raw",
    }
    return scale | ({"compressed_segmentation_block_size": [8, 8, min(8, chunks[2])]} if labels else {})
