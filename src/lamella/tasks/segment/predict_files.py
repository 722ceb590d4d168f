"""Where predictions go, and in which form.

```
OUT/                        OUT.ome.zarr (one image)
    NAME.png                    the instances
    maps/NAME.objects.png       OUT.maps.ome.zarr         with --maps
    previews/NAME.png           OUT.preview.png           with --plot
    index.html                                            with --plot
    predict.json                                          how it was made, objects of each image
```

Instances are whole numbers, 0 background: uint16, or uint32 from 65 536 objects on (PNG holds no more than 65 535). Maps run from 0 to
1: float32, in PNG 0 to 255. What a PNG has no place for, voxel size and names, is in ``predict.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.core.volume import Meta, Volume
from lamella.data.inputs import Item
from lamella.infer.maps import Target
from lamella.io import create_volume
from lamella.io.layouts import stem
from lamella.io.place import Place
from lamella.tasks.segment.predict_settings import Format

SUFFIX: dict[Format, str] = {"png": ".png", "tif": ".tif", "ome-zarr": ".ome.zarr"}
_ENDINGS: dict[str, Format] = {".png": "png", ".tif": "tif", ".tiff": "tif", ".zarr": "ome-zarr"}
_CHUNK = 512


@dataclass(frozen=True)
class Paths:
    """Where the outputs of one image go; the format of instances and maps is ``format``."""

    format: Format
    labels: str
    maps: str
    preview: Path


def named_format(out: str) -> Format | None:
    """The format that the name of an output file tells; None for a folder of outputs."""
    return next((kind for ending, kind in _ENDINGS.items() if out.lower().endswith(ending)), None)


def paths_of(item: Item, out: str, wanted: Format | None, single: bool) -> Paths:
    """The outputs of ``item`` in the folder ``out``, or, if that is the name of a ``single`` file, beside it."""
    if single:
        kind = named_format(out)
        assert kind is not None
        base = Path(out).with_name(stem(out))
        ending = Path(out).name[len(base.name) :]
        return Paths(kind, out, f"{base}.maps{ending}", Path(f"{base}.preview.png"))
    kind = wanted or _own_format(item)
    folder = Path(out)
    return Paths(
        kind,
        str(folder / f"{item.name}{SUFFIX[kind]}"),
        str(folder / "maps" / f"{item.name}{SUFFIX[kind]}"),
        folder / "previews" / f"{item.name}.png",
    )


def _own_format(item: Item) -> Format:
    place = Place.parse(item.path)
    if place.local is not None and place.local.is_file():
        name = place.name.lower()
        if name.endswith((".png", ".jpg", ".jpeg")):
            return "png"
        if name.endswith((".tif", ".tiff")):
            return "tif"
    return "ome-zarr"


def is_picture(item: Item, kind: Format) -> bool:
    """Whether instances go into a single PNG, which is written at once."""
    return kind == "png" and "z" not in item.volume.meta.axes and "t" not in item.volume.meta.axes


def label_dtype(count: int, kind: Format, path: str) -> np.dtype[Any]:
    """The smallest type that holds labels up to ``count``, of those that are read everywhere."""
    if count < 1 << 16:
        return np.dtype("uint16")
    if kind == "png":
        raise UserError(
            f"{path} would hold {count} objects, and PNG has numbers to 65535; use --format tif or ome-zarr"
        )
    return np.dtype("uint32")


Block = tuple[int, ...] | None  # the blocks (z, y, x) that a volume is filled in, which no chunk may cross


def create_labels(item: Item, paths: Paths, dtype: np.dtype[Any], facts: dict[str, Any], block: Block = None) -> Volume:
    """An empty volume for the instances of ``item``, which keeps its axes but channels, its places and voxel sizes."""
    meta, start, stop = _without_channels(item)
    described = replace(meta, channel_names=(), provenance=facts)
    return _create(paths.labels, paths.format, Box(start, stop), described, dtype, block)


def create_maps(
    item: Item, path: str, kind: Format, names: tuple[str, ...], facts: dict[str, Any], block: Block = None
) -> Volume:
    """An empty float32 volume for the maps ``names``, its channels."""
    meta, start, stop = _without_channels(item)
    at = 1 if "t" in meta.axes else 0

    def add(values: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        return (*values[:at], value, *values[at:])

    described = Meta(
        axes=add(meta.axes, "c"),
        voxel_size=add(meta.voxel_size, 1.0),
        units=add(meta.units, ""),
        channel_names=names,
        name=meta.name,
        translation=add(meta.translation, 0.0) if meta.translation else (),
        provenance=facts,
    )
    return _create(path, kind, Box(add(start, 0), add(stop, len(names))), described, np.dtype("float32"), block)


def _without_channels(item: Item) -> tuple[Meta, tuple[int, ...], tuple[int, ...]]:
    """Metadata, start and stop of an image without its axis c."""
    box, meta = item.volume.box, item.volume.meta
    keep = [k for k, axis in enumerate(meta.axes) if axis != "c"]

    def kept(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[k] for k in keep) if values else ()

    plain = replace(
        meta,
        axes=kept(meta.axes),
        voxel_size=kept(meta.voxel_size),
        units=kept(meta.units),
        translation=kept(meta.translation),
    )
    return plain, kept(box.start), kept(box.stop)


def _create(path: str, kind: Format, box: Box, meta: Meta, dtype: np.dtype[Any], block: Block) -> Volume:
    sides = dict(zip("zyx", block or (1, _CHUNK, _CHUNK), strict=True))
    whole = {"c": box.shape[meta.axes.index("c")]} if "c" in meta.axes else {}
    sizes = {axis: _divisor(n, _CHUNK if axis in "yx" else 8) for axis, n in sides.items()} | whole
    chunk = tuple(min(n, sizes.get(axis, 1)) for axis, n in zip(meta.axes, box.shape, strict=True))
    target = str(Path(path).with_suffix("") / "*.png") if kind == "png" else path
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return create_volume(target, box=box, dtype=dtype, meta=meta, chunk=chunk, overwrite=True)[0]


def _divisor(size: int, most: int) -> int:
    """The largest divisor of ``size`` that is at most ``most``, if it is not much smaller; otherwise ``size``."""
    found = max(n for n in range(1, min(size, most) + 1) if size % n == 0)
    return found if 4 * found >= min(size, most) else size


def write_picture(path: str | Path, array: NDArray[Any]) -> None:
    """A grey PNG of 8 or 16 bits in one step."""
    with replacing(path) as beside:
        iio.imwrite(beside, array, extension=".png")


def write_labels(item: Item, paths: Paths, labels: NDArray[np.int32], facts: dict[str, Any]) -> None:
    """The instances (z, y, x) of an image that fits in memory."""
    dtype = label_dtype(int(labels.max(initial=0)), paths.format, paths.labels)
    if is_picture(item, paths.format):
        write_picture(paths.labels, labels[0].astype(dtype))
        return
    volume = create_labels(item, paths, dtype, facts)
    Target(volume).write(Box.of(labels.shape), labels.astype(dtype))


def write_maps(
    item: Item, paths: Paths, maps: NDArray[np.float32], names: tuple[str, ...], facts: dict[str, Any]
) -> None:
    """The maps (k, z, y, x) of an image that fits in memory; in PNG a file for each."""
    if paths.format == "png":
        for name, values in zip(names, maps, strict=True):
            write_grey(Path(paths.maps), name, values)
        return
    volume = create_maps(item, paths.maps, paths.format, names, facts)
    Target(volume).write(Box.of(maps.shape[1:]), maps)


def write_grey(path: Path, name: str, values: NDArray[np.float32]) -> None:
    """One map (z, y, x) as PNG, ``PATH.NAME.png``, or a folder of them for several sections."""
    grey = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    base = path.with_suffix("")
    if len(grey) == 1:
        write_picture(base.with_name(f"{base.name}.{name}.png"), grey[0])
        return
    for z, section in enumerate(grey):
        write_picture(base.with_name(f"{base.name}.{name}") / f"{z:05d}.png", section)


def with_facts(facts: dict[str, Any], item: Item) -> dict[str, Any]:
    """``facts`` with where the image came from."""
    return {**facts, "source": item.path}


def own_meta(item: Item) -> dict[str, Any]:
    """What a PNG has no place for."""
    meta = replace(item.volume.meta, provenance={})
    return {
        "axes": "".join(meta.axes),
        "voxel_size": list(meta.voxel_size),
        "units": list(meta.units),
        "channel_names": list(meta.channel_names),
    }
