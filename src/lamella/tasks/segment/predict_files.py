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
from lamella.infer.maps import Target
from lamella.io import create_volume
from lamella.io.layouts import stem
from lamella.io.place import Place
from lamella.tasks.segment.predict_inputs import Item
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


def create_labels(item: Item, paths: Paths, dtype: np.dtype[Any], facts: dict[str, Any]) -> Volume:
    """An empty volume for the instances of ``item``, which keeps its axes but channels, places and voxel sizes."""
    keep = [k for k, axis in enumerate(item.volume.meta.axes) if axis != "c"]
    return _create(item, paths.labels, paths.format, keep, dtype, facts)


def create_maps(item: Item, path: str, kind: Format, names: tuple[str, ...], facts: dict[str, Any]) -> Volume:
    """An empty float32 volume for the maps ``names``, its channels."""
    keep = [k for k, axis in enumerate(item.volume.meta.axes) if axis != "c"]
    return _create(item, path, kind, keep, np.dtype("float32"), facts, names)


def _create(
    item: Item,
    path: str,
    kind: Format,
    keep: list[int],
    dtype: np.dtype[Any],
    facts: dict[str, Any],
    names: tuple[str, ...] = (),
) -> Volume:
    box, meta = item.volume.box, item.volume.meta
    start, stop = ([v[k] for k in keep] for v in (box.start, box.stop))
    axes = [meta.axes[k] for k in keep]
    sizes, units = [meta.voxel_size[k] for k in keep], [meta.units[k] for k in keep]
    moved = [meta.translation[k] for k in keep] if meta.translation else []
    if names:
        at = axes.index("t") + 1 if "t" in axes else 0
        for values, value in ((start, 0), (stop, len(names)), (axes, "c"), (sizes, 1.0), (units, "")):
            values.insert(at, value)  # type: ignore[arg-type]
        if moved:
            moved.insert(at, 0.0)
    described = Meta(tuple(axes), tuple(sizes), tuple(units), names, meta.name, tuple(moved), facts)
    shape = tuple(b - a for a, b in zip(start, stop, strict=True))
    chunk = tuple(
        min(n, _CHUNK if a in "yx" else _thickness(axes, shape) if a == "z" else n if a == "c" else 1)
        for a, n in zip(axes, shape, strict=True)
    )
    target = str(Path(path).with_suffix("") / "*.png") if kind == "png" else path
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    full = Box(tuple(start), tuple(stop))
    return create_volume(target, box=full, dtype=dtype, meta=described, chunk=chunk, overwrite=True)[0]


def _thickness(axes: list[str], shape: tuple[int, ...]) -> int:
    """Sections per chunk: a quarter of a megavoxel each."""
    return max(1, (1 << 20) // (_CHUNK * _CHUNK)) if shape[axes.index("z")] > 1 else 1


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
