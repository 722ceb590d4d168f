"""Where a head's predictions go, and in which form.

```
OUT/                              OUT.ome.zarr (one image)
    NAME.ome.zarr                     classes: the most probable class of each voxel, uint8, axes z y x
    NAME.maps.ome.zarr                OUT.maps.ome.zarr   with --maps: probabilities, float32, axes c z y x
    predict.json                                          how it was made
```

Of a head that predicts affinities, ``NAME.ome.zarr`` are the maps, c z y x. Each volume says by itself how it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.data.inputs import Images, Item
from lamella.io import create_volume
from lamella.io.layouts import stem

RECORD = "predict.json"
_CHUNK = {"z": 16, "y": 256, "x": 256}


@dataclass(frozen=True)
class Outputs:
    """What is written below ``out``: a folder, or a ``single`` volume with what belongs to it beside."""

    out: str
    single: bool

    def main(self, item: Item) -> str:
        return self.out if self.single else str(Path(self.out) / f"{item.name}.ome.zarr")

    def maps(self, item: Item) -> str:
        """Where the probabilities of classes go."""
        main = Path(self.main(item))
        return str(main.with_name(f"{stem(main)}.maps.ome.zarr"))


def outputs_of(out: str, images: Images) -> Outputs:
    """A single volume if ``out`` is named like one, otherwise a folder; refuses one that holds the images."""
    number = len(images.items) + len(images.left_out)
    single = out.rstrip("/").lower().endswith(".zarr")
    if single and number > 1:
        raise UserError(f"output {out} is one volume, but there are {number} images; name a folder")
    if not single and Path(out).suffix.lower() in (".tif", ".tiff", ".png", ".h5", ".n5"):
        raise UserError(f"predictions of heads are written as OME-Zarr; end {out} in .ome.zarr, or name a folder")
    place = Path(out).resolve()
    for item in images.items:
        if "://" not in item.path and Path(item.path).resolve().is_relative_to(place):
            raise UserError(f"output {out} is, or holds, the image {item.path}; choose another")
    return Outputs(out.rstrip("/"), single)


def create_output(item: Item, path: str, names: tuple[str, ...], dtype: str, facts: dict[str, Any]) -> Volume:
    """An empty volume that keeps places and voxel sizes of ``item``, with a channel for each of ``names`` if there are any."""
    own, box = item.volume.meta, item.volume.box
    kept: list[tuple[str, int | None]] = [(axis, k) for k, axis in enumerate(own.axes) if axis != "c"]
    at = 1 if "t" in own.axes else 0
    order = [*kept[:at], ("c", None), *kept[at:]] if names else kept
    moved = own.translation or (0.0,) * len(own.axes)
    meta = Meta(
        axes=tuple(axis for axis, _ in order),
        voxel_size=tuple(1.0 if k is None else own.voxel_size[k] for _, k in order),
        units=tuple("" if k is None else own.units[k] for _, k in order),
        channel_names=names,
        name=own.name,
        translation=tuple(0.0 if k is None else moved[k] for _, k in order) if any(moved) else (),
        provenance={**facts, "source": item.path},
    )
    start = tuple(0 if k is None else box.start[k] for _, k in order)
    stop = tuple(len(names) if k is None else box.stop[k] for _, k in order)
    shape = Box(start, stop).shape
    sizes = {"c": len(names), **_CHUNK}
    chunk = tuple(min(n, sizes.get(axis, 1)) for axis, n in zip(meta.axes, shape, strict=True))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return create_volume(path, box=Box(start, stop), dtype=dtype, meta=meta, chunk=chunk, overwrite=True)[0]
