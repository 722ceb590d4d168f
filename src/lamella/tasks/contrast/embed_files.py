"""Where embeddings go, and in which form.

```
OUT/                        OUT.ome.zarr (one image)
    NAME.ome.zarr               the embeddings, axes c z y x (c y x for a picture, t before them)
    previews/NAME.png           OUT.preview.png           image and embeddings in colours
    components.json             OUT.components.json       with --preview pca: what colour is which embedding
    embed.json                                            how it was made
```

Each volume says by itself how it was made, and from which checkpoint (see ``lamella.data.embeddings``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.data.inputs import Item
from lamella.io import create_volume
from lamella.io.layouts import stem

RECORD = "embed.json"
_CHUNK = {"z": 16, "y": 256, "x": 256}


@dataclass(frozen=True)
class Outputs:
    """What is written below ``out``: a folder, or a ``single`` volume with what belongs to it beside."""

    out: str
    single: bool

    def volume(self, item: Item) -> str:
        return self.out if self.single else str(Path(self.out) / f"{item.name}.ome.zarr")

    def preview(self, item: Item) -> Path:
        return self._beside("preview.png") if self.single else Path(self.out) / "previews" / f"{item.name}.png"

    @property
    def components(self) -> Path:
        return self._beside("components.json") if self.single else Path(self.out) / "components.json"

    def _beside(self, ending: str) -> Path:
        return Path(self.out).with_name(f"{stem(self.out)}.{ending}")


def outputs_of(out: str, num_images: int) -> Outputs:
    """A single volume if ``out`` is named like one, otherwise a folder."""
    single = out.rstrip("/").lower().endswith(".zarr")
    if single and num_images > 1:
        raise UserError(f"output {out} is one volume, but there are {num_images} images; name a folder")
    if not single and Path(out).suffix.lower() in (".tif", ".tiff", ".png", ".h5", ".n5"):
        raise UserError(f"embeddings are written as OME-Zarr; end {out} in .ome.zarr, or name a folder")
    return Outputs(out.rstrip("/"), single)


def create_embeddings(item: Item, path: str, h_channels: int, dtype: str, facts: dict[str, Any]) -> Volume:
    """An empty volume of ``h_channels`` that keeps places and voxel sizes of ``item``; ``facts`` are its provenance."""
    own, box = item.volume.meta, item.volume.box
    kept = [(axis, k) for k, axis in enumerate(own.axes) if axis != "c"]
    at = 1 if "t" in own.axes else 0
    order = [*kept[:at], ("c", None), *kept[at:]]
    moved = own.translation or (0.0,) * len(own.axes)
    meta = Meta(
        axes=tuple(axis for axis, _ in order),
        voxel_size=tuple(1.0 if k is None else own.voxel_size[k] for _, k in order),
        units=tuple("" if k is None else own.units[k] for _, k in order),
        name=own.name,
        translation=tuple(0.0 if k is None else moved[k] for _, k in order) if any(moved) else (),
        provenance={**facts, "source": item.path},
    )
    start = tuple(0 if k is None else box.start[k] for _, k in order)
    stop = tuple(h_channels if k is None else box.stop[k] for _, k in order)
    shape = Box(start, stop).shape
    sizes = {"c": h_channels, **_CHUNK}
    chunk = tuple(min(n, sizes.get(axis, 1)) for axis, n in zip(meta.axes, shape, strict=True))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return create_volume(path, box=Box(start, stop), dtype=dtype, meta=meta, chunk=chunk, overwrite=True)[0]
