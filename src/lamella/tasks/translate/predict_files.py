"""Where translations go, and in which form.

```
OUT/im_c001_z006_t000_p003.tif  frames (frames-png: PNG), with their frames_meta.csv; targets have the numbers of training
OUT/ or OUT.ome.zarr            a plate, for positions of a plate
OUT/NAME.ome.zarr|.tif|.png     a file for each image, or for each position of an experiment
OUT.ome.zarr|.tif|.png          one file, for one image
OUT/previews/NAME.png, OUT/index.html          with --plot (OUT.preview.png beside one file)
OUT/predict.json                                how it was made
```

Voxel size, units, places and names of positions are those of the source, names of channels those of the targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io import create_volume, open_volume
from lamella.io.folders import encode, put_file
from lamella.io.frames import FRAMES, find_table
from lamella.io.layouts import stem
from lamella.io.place import Place
from lamella.io.plan import make_plan
from lamella.io.positions import create_positions, plate_told, renamed
from lamella.tasks.translate.predict_settings import Format, TranslateSettings
from lamella.tasks.translate.predict_source import Item, Source
from lamella.tasks.translate.translator import Translator

RECORD = "predict.json"
_ENDINGS: dict[str, Format] = {".png": "png", ".tif": "tif", ".tiff": "tif", ".zarr": "ome-zarr"}
_SUFFIX = {"png": ".png", "tif": ".tif", "ome-zarr": ".ome.zarr"}


@dataclass(frozen=True)
class Outputs:
    """What is written below ``out``. ``layout``: positions in one experiment (frames or plate), files in a folder, or one file."""

    out: str
    layout: str
    format: Format
    names: Mapping[str, str]
    """What each item is called there."""

    @property
    def single(self) -> bool:
        return self.layout == "file"

    @property
    def folder(self) -> Path:
        """Where the record, previews and the page lie; for one file beside it."""
        return Path(self.out).parent if self.single else Path(self.out)

    def path(self, item: Item) -> str:
        """The volume of an item; of positions with the data set's name."""
        if self.layout in ("frames", "plate"):
            return f"{self.out}/{self.names[item.name]}"
        return self.out if self.single else str(Path(self.out) / f"{self.names[item.name]}{_SUFFIX[self.format]}")

    def preview(self, item: Item) -> Path:
        if self.single:
            return Path(self.out).with_name(f"{stem(self.out)}.preview.png")
        return self.folder / "previews" / f"{self.names[item.name].replace('/', '_')}.png"

    @property
    def whole_planes(self) -> bool:
        """Whether planes are written in one piece."""
        return self.format in ("frames", "frames-png", "png")

    def open(self, item: Item, translator: Translator) -> Sink:
        """Where an item's voxels go. In frames targets have the numbers of training."""
        if self.format == "png":
            return PngSink(self.path(item))
        dataset = self.names[item.name] if self.layout in ("frames", "plate") else None
        volume = open_volume(self.out if dataset else self.path(item), dataset=dataset, writable=True)
        numbers = translator.measured.numbers if self.layout == "frames" else ()
        numbers = numbers or tuple(range(len(translator.targets)))
        return VolumeSink(volume, tuple(n - min(numbers) for n in numbers))


def outputs_of(source: Source, out: str, settings: TranslateSettings) -> Outputs:
    """The layout that the name of ``out``, ``--format`` and the source ask for, in this order."""
    out = out.rstrip("/")
    if "*" in Path(out).name:  # out/im_c*_z*_t*_p*.png
        return _experiment(source, str(Path(out).parent), "frames-png" if out.lower().endswith(".png") else "frames")
    named = next((kind for ending, kind in _ENDINGS.items() if out.lower().endswith(ending)), None)
    if named is not None and settings.format not in (None, named):
        raise UserError(
            f"output {out} is not of the format {settings.format}; name it otherwise, or leave out --format"
        )
    several = len(source.items) + len(source.left_out) > 1
    if named == "ome-zarr" and several and source.experiment:
        return Outputs(out, "plate", "ome-zarr", _renamed(source, "plate"))
    if named is not None:
        if several:
            raise UserError(f"output {out} is one file, but there are {len(source.items)} images; name a folder")
        return Outputs(out, "file", named, {item.name: stem(out) for item in source.items})
    kind = settings.format or _own_format(source)
    if kind in ("frames", "frames-png"):
        return _experiment(source, out, kind)
    if kind == "ome-zarr" and source.experiment and settings.format is None:
        return Outputs(out, "plate", "ome-zarr", _renamed(source, "plate"))
    return Outputs(out, "files", kind, {item.name: item.name.replace("/", "_") for item in source.items})


def _experiment(source: Source, out: str, kind: Format) -> Outputs:
    names = (
        _renamed(source, "frames") if source.experiment else {i.name: f"p{k:03d}" for k, i in enumerate(source.items)}
    )
    return Outputs(out, "frames", kind, names)


def _renamed(source: Source, layout: str) -> dict[str, str]:
    names = [item.name for item in source.items]
    same = all(("/" in name) == (layout == "plate") for name in names)
    return {name: name for name in names} if same else renamed(source.path, names, layout)


def _own_format(source: Source) -> Format:
    """That of the source."""
    place = Place.parse(source.path)
    if source.experiment:
        table = find_table(place.local)
        if table is None:
            return "ome-zarr"
        return "frames-png" if table.frames[0].file_name.lower().endswith(".png") else "frames"
    first = Place.parse(source.items[0].path).name.lower()
    flat = all(n == 1 for item in source.items for n in item.raw.box.shape[:-2])
    if first.endswith((".png", ".jpg", ".jpeg")) and flat:
        return "png"
    return "tif" if first.endswith((".tif", ".tiff")) else "ome-zarr"


def type_of(translator: Translator, outputs: Outputs, settings: TranslateSettings) -> np.dtype[Any]:
    """The type to write: as asked, or that of the targets in training; of segmentations uint8 where the format has no floats."""
    png = outputs.format in ("png", "frames-png")
    trained = np.dtype(translator.measured.dtype)
    if settings.dtype is not None:
        chosen = np.dtype(settings.dtype)
    elif translator.segments:
        chosen = np.dtype("uint8" if png else "float32")
    else:
        chosen = trained if trained.kind in "iu" else np.dtype("float32")
    if png and chosen.name not in ("uint8", "uint16"):
        raise UserError(
            f"PNG holds whole numbers up to 65535, not {chosen}; add --dtype uint16, or choose --format tif or ome-zarr"
        )
    return chosen


def check_outputs(source: Source, outputs: Outputs, targets: int) -> None:
    """Refuse an output that is, or holds, an image, and formats that cannot hold one."""
    out = Path(outputs.out).resolve()
    for item in source.items:
        local = Place.parse(item.path).local
        if local is not None and (local.resolve().is_relative_to(out)):
            raise UserError(f"output {outputs.out} is, or holds, the image {item.path}; choose another --output")
        planes = item.inputs.box.shape[0] * item.inputs.box.shape[2] * targets
        if outputs.format == "png" and planes > 1:
            raise UserError(
                f"a PNG holds one plane, and the translation of {item.path} has {planes} (targets, slices and times); use --format "
                "frames-png, tif or ome-zarr"
            )


def create(
    source: Source, outputs: Outputs, translator: Translator, dtype: np.dtype[Any], facts: Mapping[str, Any]
) -> None:
    """Empty outputs for all items."""
    stride = translator.op.stride
    if outputs.layout in ("frames", "plate"):
        plans = {}
        for item in source.items:
            box, meta = _described(item, translator, dict(facts), frames=outputs.layout == "frames")
            plans[outputs.names[item.name]] = make_plan(box, dtype, meta, chunk_of(box, meta, stride))
        kind = {"frames": "frames", "frames-png": "frames-png"}.get(outputs.format, "plate")
        create_positions(outputs.out, plans, kind=kind, overwrite=True, plate=plate_told(source.path))
        return
    for item in source.items:
        path = Path(outputs.path(item))
        path.parent.mkdir(parents=True, exist_ok=True)
        if outputs.format != "png":
            box, meta = _described(item, translator, dict(facts), frames=False)
            create_volume(path, box=box, dtype=dtype, meta=meta, chunk=chunk_of(box, meta, stride), overwrite=True)


def _described(item: Item, translator: Translator, facts: dict[str, Any], *, frames: bool) -> tuple[Box, Meta]:
    """Box and metadata of an item's translation: frames and images of several targets have an axis c, others as their source."""
    inputs, raw = item.inputs.box, item.inputs.source.meta
    numbers = translator.measured.numbers or tuple(range(len(translator.targets)))
    first, last = (min(numbers), max(numbers)) if frames else (0, len(translator.targets) - 1)
    start = (inputs.start[0], first, *inputs.start[2:])
    stop = (inputs.stop[0], last + 1, *inputs.stop[2:])
    own = item.raw.meta.axes
    keep = [k for k, a in enumerate("tczyx") if frames or a in own or (a == "c" and len(numbers) > 1)]
    names = tuple(translator.targets)
    if frames:
        names = tuple(dict(zip(numbers, names, strict=True)).get(n, "") for n in range(first, last + 1))
        listed = [[t, c, z] for t, c, z in product(range(start[0], stop[0]), numbers, range(start[2], stop[2]))]
        facts = {**facts, FRAMES: {"columns": ["t", "c", "z"], "rows": listed}}
    moved = raw.translation or (0.0,) * 5
    meta = Meta(
        axes=tuple("tczyx"[k] for k in keep),
        voxel_size=tuple(raw.voxel_size[k] if k != 1 else 1.0 for k in keep),
        units=tuple(raw.units[k] if k != 1 else "" for k in keep),
        channel_names=names if 1 in keep else (),
        name=raw.name,
        translation=tuple(moved[k] if k != 1 else 0.0 for k in keep) if any(moved) else (),
        provenance={**facts, "source": item.path},
    )
    return Box(tuple(start[k] for k in keep), tuple(stop[k] for k in keep)), meta


def chunk_of(box: Box, meta: Meta, stride: Sequence[int]) -> tuple[int, ...]:
    """Chunks of whole strides of the net (z, y, x), so that no two of its blocks share one: 512 by 512, or 16 by 256 by 256."""
    sides = (16, 256, 256) if stride[0] > 1 else (1, 512, 512)
    sizes = dict(zip("zyx", (max(n // s, 1) * s for n, s in zip(sides, stride, strict=True)), strict=True))
    return tuple(min(n, sizes.get(a, 1)) for a, n in zip(meta.axes, box.shape, strict=True))


class Sink(ABC):
    """Where voxels go. Boxes (z, y, x) count from the first voxel, times from the first time."""

    chunk: tuple[int, int, int] = (1, 1, 1)
    """Voxels (z, y, x) of the smallest piece that two blocks must not share; 1 where a piece is as long as the axis."""

    @abstractmethod
    def write(self, time: int, box: Box, array: NDArray[Any]) -> None:
        """Store ``array`` (targets, z, y, x)."""


class VolumeSink(Sink):
    """A volume of any of the axes t c z y x."""

    def __init__(self, volume: Volume, channels: Sequence[int]) -> None:
        self.volume, self.channels = volume, tuple(channels)
        sizes = zip(volume.meta.axes, volume.chunk, volume.box.shape, strict=True)
        pieces = {axis: chunk for axis, chunk, length in sizes if chunk < length}
        z, y, x = (pieces.get(axis, 1) for axis in "zyx")
        self.chunk = (z, y, x)

    def write(self, time: int, box: Box, array: NDArray[Any]) -> None:
        axes = self.volume.meta.axes
        for k in range(len(array)) if "c" in axes else (0,):
            ranges = {"t": (time, time + 1), "c": (self.channels[k], self.channels[k] + 1)}
            ranges |= dict(zip("zyx", zip(box.start, box.stop, strict=True), strict=True))
            first = self.volume.box.start
            start = tuple(first[i] + ranges[a][0] for i, a in enumerate(axes))
            stop = tuple(first[i] + ranges[a][1] for i, a in enumerate(axes))
            target = Box(start, stop)
            self.volume.write(target, np.ascontiguousarray(array[k].reshape(target.shape)))


class PngSink(Sink):
    """One picture, written at once."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def write(self, time: int, box: Box, array: NDArray[Any]) -> None:
        put_file(self.path, encode(array[0, 0], ".png"))
