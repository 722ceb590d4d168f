"""OME-Zarr 0.4 (zarr 2) and 0.5 (zarr 3), and zarr arrays without OME metadata.

A group with ``multiscales`` is an image with mips; its ``labels`` are further data sets. Any other group is a container: the arrays
and images found in it are its data sets. Plain arrays take their axes from zarr's dimension names, otherwise from their rank
(``y x``, ``z y x``, ``c z y x``, ``t c z y x``). A t or c axis of length one is dropped on reading unless lamella wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io import ome
from lamella.io.base import full_disk_explained
from lamella.io.contents import Contents, Dataset, built_beside
from lamella.io.place import Place
from lamella.io.plan import KEY, Plan, Recorded, recorded, translation_of
from lamella.io.store import create_array, drop_singletons, store_volume

_BY_RANK = {1: "x", 2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}
_DEPTH = 4  # folders below a container that are searched; a plate's wells and fields lie three down


@dataclass(frozen=True)
class Node:
    """A zarr group or array: the format's version, its own metadata and the user's attributes."""

    version: int
    is_array: bool
    metadata: Mapping[str, Any]
    attributes: Mapping[str, Any]

    @property
    def image(self) -> Mapping[str, Any] | None:
        """The attributes that hold ``multiscales``, wherever this version of OME-Zarr keeps them."""
        for found in (self.attributes.get("ome"), self.attributes):
            if isinstance(found, Mapping) and found.get("multiscales"):
                return found
        return None


class Zarr:
    """OME-Zarr and plain zarr."""

    kinds = ("ome-zarr", "ome-zarr-0.5", "ome-zarr-0.4")
    suffixes = (".zarr",)
    label = "OME-Zarr or zarr folder (.zarr)"

    def contents(self, place: Place) -> Contents | None:
        node = node_at(place)
        if node is None:
            return None
        if node.is_array:
            return Contents(f"zarr {node.version} array", {"": Dataset(1, partial(_open_plain, place, node))})
        if node.image is not None:
            version = node.image.get("version") or node.image["multiscales"][0].get("version", "0.4")
            return Contents(
                f"OME-Zarr {version} (zarr {node.version})", {**_images(place, node), **_labels(place, node)}
            )
        found = {name: d for child in _children(place, node) for name, d in nested(place, child).items()}
        if not found:
            raise UserError(
                f"{place.url} is a zarr group in which no array was found; give the path of an array or image in it"
            )
        return Contents(f"zarr {node.version} group", found)

    def create(self, place: Place, plan: Plan, kind: str) -> None:
        version = 2 if kind == "ome-zarr-0.4" else 3
        _check_axes(plan)
        paths = [str(k) for k in range(len(plan.factors))]
        with full_disk_explained(place.url), built_beside(place) as beside:
            for path, box, chunk in zip(paths, plan.boxes, plan.chunks, strict=True):
                metadata = (_metadata_2 if version == 2 else _metadata_3)(box.shape, chunk, plan)
                create_array({**_spec(beside / path, version), "metadata": metadata}, place.url)
            write_group(beside, version, _attributes(plan, paths, version))


def _spec(place: Place, version: int) -> dict[str, Any]:
    return {"driver": "zarr3" if version == 3 else "zarr", "kvstore": place.kvstore}


# Reading


def node_at(place: Place) -> Node | None:
    """The group or array at ``place``, None if there is none."""
    metadata = place.read_json("zarr.json")
    if metadata is not None and metadata.get("zarr_format") == 3:
        return Node(3, metadata.get("node_type") == "array", metadata, metadata.get("attributes", {}))
    array = place.read_json(".zarray")
    attributes = place.read_json(".zattrs")
    if array is not None:
        return Node(2, True, array, attributes or {})
    if attributes is not None or place.read_json(".zgroup") is not None:
        return Node(2, False, {}, attributes or {})
    return None


def _images(place: Place, node: Node) -> dict[str, Dataset]:
    assert node.image is not None
    images = [ome.read_image(m, place.url) for m in node.image["multiscales"]]
    names = [""] if len(images) == 1 else [m.name or str(i) for i, m in enumerate(images)]
    return {n: Dataset(len(m.levels), partial(_open_level, place, node, m)) for n, m in zip(names, images, strict=True)}


def _labels(place: Place, node: Node) -> dict[str, Dataset]:
    group = node_at(place / "labels")
    if group is None or group.is_array:
        return {}
    listed = group.attributes.get("ome", group.attributes).get("labels", [])
    return {name: d for label in listed for name, d in nested(place, f"labels/{label}").items()}


def nested(place: Place, child: str) -> dict[str, Dataset]:
    """The data sets of an array or image below ``place``."""
    below = place / child
    node = node_at(below)
    if node is None:
        return {}
    if node.is_array:
        return {child: Dataset(1, partial(_open_plain, below, node))}
    if node.image is None:
        return {}
    return {f"{child}/{n}".rstrip("/"): d for n, d in _images(below, node).items()}


def _children(place: Place, node: Node) -> list[str]:
    """Paths of the arrays and images in a container, by walking the disk or from the consolidated metadata."""
    if place.local:
        return sorted(_walk(place, "", _DEPTH), key=lambda p: (p.count("/"), p))
    keys = node.metadata.get("consolidated_metadata") or place.read_json(".zmetadata") or {}
    listed = [
        k.removesuffix("/.zarray").removesuffix("/.zattrs").removesuffix("/.zgroup") for k in keys.get("metadata", {})
    ]
    if "bioformats2raw.layout" in node.attributes.get("ome", node.attributes):
        listed += [str(i) for i in range(64) if node_at(place / str(i)) is not None]
    images: list[str] = []
    for child in sorted(set(listed), key=lambda p: (p.count("/"), p)):
        if not any(child.startswith(f"{i}/") for i in images) and nested(place, child):
            images.append(child)
    return images


def _walk(place: Place, below: str, depth: int) -> Iterator[str]:
    assert place.local
    for entry in os.scandir(place.local / below):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        child = f"{below}/{entry.name}".lstrip("/")
        node = node_at(place / child)
        if node is not None and (node.is_array or node.image is not None):
            yield child
        elif depth > 1:
            yield from _walk(place, child, depth - 1)


def _open_level(place: Place, node: Node, image: ome.Image, mip: int, writable: bool) -> Volume:
    level, below = image.levels[mip], place / image.levels[mip].path
    array = node_at(below)
    if array is None or not array.is_array:
        raise UserError(
            f"mip {mip} of {place.url} names the array {level.path!r}, which is not there; the volume is incomplete"
        )
    shape = array.metadata["shape"]
    if len(shape) != len(image.axes):
        raise UserError(
            f"mip {mip} of {place.url} has {len(shape)} dimensions but axes {''.join(image.axes)}; it is damaged"
        )
    scale = level.scale or _scale_by_shape(place, node, image, shape)
    names = ome.channel_names((node.image or {}).get("omero"))
    meta = Meta(image.axes, scale, image.units, names, image.name, level.translation if any(level.translation) else ())
    ours = recorded(node.attributes.get(KEY))
    start: tuple[int, ...] | None = None
    if ours is not None and ours.meta.axes == meta.axes and mip < len(ours.factors):
        start = ours.box.scale(ours.factors[mip]).start
        meta = _with_record(meta, ours, start)
    else:
        meta = drop_singletons(meta, shape)
    volume = store_volume(below, _spec(below, array.version), image.axes, meta, start=start, writable=writable)
    volume.header = replace(volume.header, path=place.url)
    return volume


def _with_record(meta: Meta, ours: Recorded, start: tuple[int, ...]) -> Meta:
    """What OME-Zarr tells, with what it has no place for; its translation is that of the first voxel, ours of voxel 0."""
    zero = tuple(round(t - s * v, 9) for t, s, v in zip(translation_of(meta), start, meta.voxel_size, strict=True))
    names = meta.channel_names or ours.meta.channel_names
    return replace(
        meta,
        translation=zero if any(zero) else (),
        channel_names=names,
        name=meta.name or ours.meta.name,
        provenance=ours.meta.provenance,
    )


def _scale_by_shape(place: Place, node: Node, image: ome.Image, shape: list[int]) -> tuple[float, ...]:
    """Voxel sizes relative to mip 0, for versions before 0.4, which did not store them."""
    first = node_at(place / image.levels[0].path)
    whole = first.metadata["shape"] if first else shape
    return tuple(float(round(a / b)) for a, b in zip(whole, shape, strict=True))


def _open_plain(place: Place, node: Node, mip: int, writable: bool) -> Volume:
    shape = node.metadata["shape"]
    names = node.metadata.get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS") or ()
    axes = tuple(str(n).lower() for n in names)
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or any(len(a) != 1 or a not in "ntczyx" for a in axes):
        if len(shape) not in _BY_RANK:
            raise UserError(f"{place.url} has {len(shape)} dimensions; lamella reads arrays of 1 to 5")
        axes = tuple(_BY_RANK[len(shape)])
    meta = drop_singletons(Meta.plain(axes, name=place.name), shape)
    return store_volume(place, _spec(place, node.version), axes, meta, start=None, writable=writable)


# Writing


def _check_axes(plan: Plan) -> None:
    axes = "".join(plan.meta.axes)
    if len(axes) > 5 or not axes.endswith("yx") or ("n" in axes and "c" in axes):
        raise UserError(f"OME-Zarr holds y x with z, c (or n) and t before them; the axes here are {axes}")


def _metadata_3(shape: tuple[int, ...], chunk: tuple[int, ...], plan: Plan) -> dict[str, Any]:
    itemsize = plan.dtype.itemsize
    blosc = {"cname": "zstd", "clevel": 3, "shuffle": "shuffle" if itemsize > 1 else "noshuffle", "typesize": itemsize}
    return {
        "shape": shape,
        "data_type": plan.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "codecs": [
            {"name": "bytes", **({"configuration": {"endian": "little"}} if itemsize > 1 else {})},
            {"name": "blosc", "configuration": blosc},
        ],
        "dimension_names": plan.meta.axes,
        "fill_value": False if plan.dtype.kind == "b" else 0,
    }


def _metadata_2(shape: tuple[int, ...], chunk: tuple[int, ...], plan: Plan) -> dict[str, Any]:
    return {
        "shape": shape,
        "dtype": plan.dtype.newbyteorder("<").str,
        "chunks": chunk,
        "dimension_separator": "/",
        "compressor": {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": int(plan.dtype.itemsize > 1)},
        "fill_value": False if plan.dtype.kind == "b" else 0,
        "order": "C",
        "filters": None,
    }


def _attributes(plan: Plan, paths: list[str], version: int) -> dict[str, Any]:
    image = ome.image_json(plan.metas, [b.start for b in plan.boxes], paths)
    found: dict[str, Any] = {"multiscales": [image]}
    if plan.meta.channel_names:
        found["omero"] = ome.omero_json(plan.meta.channel_names, np.dtype(plan.dtype))
    if version == 2:
        image["version"] = "0.4"
        return {**found, KEY: plan.record()}
    return {"ome": {"version": "0.5", **found}, KEY: plan.record()}


def write_group(place: Place, version: int, attributes: dict[str, Any]) -> None:
    """Write a group's metadata; ``version`` is zarr's."""
    if version == 3:
        place.write_json("zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})
        return
    place.write_json(".zattrs", attributes)
    place.write_json(".zgroup", {"zarr_format": 2})
