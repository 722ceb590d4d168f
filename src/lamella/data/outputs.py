"""Volumes with channels that are made of images: where they go, how they begin, and what is done about images that are bad.

One image may become one volume, ``OUT.ome.zarr``; any number a folder with ``NAME.ome.zarr`` for each and a record of how they were
made. A folder that exists is only replaced if it holds that record.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lamella.blockwise import Unfinished
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.progress import progress
from lamella.core.volume import Meta, Volume
from lamella.data.inputs import Images, Item, attempt
from lamella.io import create_volume
from lamella.io.layouts import stem

T = TypeVar("T")

_CHUNK = {"z": 16, "y": 256, "x": 256}
_OTHERS = (".tif", ".tiff", ".png", ".h5", ".n5")


@dataclass(frozen=True)
class Outputs:
    """What is written below ``out``: a folder with ``record``, or a ``single`` volume with what belongs to it beside."""

    out: str
    single: bool
    record: str

    @classmethod
    def of(cls, out: str, images: Images, *, record: str, what: str) -> Outputs:
        """A single volume if ``out`` is named like one, otherwise a folder; ``what`` is told where that cannot be.

        Raises UserError for one volume of several images, other formats, and an output that is, or holds, one of the images.
        """
        number = len(images.items) + len(images.left_out)
        single = out.rstrip("/").lower().endswith(".zarr")
        if single and number > 1:
            raise UserError(f"output {out} is one volume, but there are {number} images; name a folder")
        if not single and Path(out).suffix.lower() in _OTHERS:
            raise UserError(f"{what} are written as OME-Zarr; end {out} in .ome.zarr, or name a folder")
        place = Path(out).resolve()
        for item in images.items:
            if "://" not in item.path and Path(item.path).resolve().is_relative_to(place):
                raise UserError(f"output {out} is, or holds, the image {item.path}; choose another")
        return cls(out.rstrip("/"), single, record)

    def volume(self, item: Item, ending: str = "") -> str:
        """Where the volume of an image goes, ``ending`` in ``.ENDING.ome.zarr`` if there are several of it."""
        main = Path(self.out if self.single else f"{self.out}/{item.name}.ome.zarr")
        return str(main.with_name(f"{stem(main)}.{ending}.ome.zarr") if ending else main)

    def beside(self, name: str) -> Path:
        """A file of that name in the folder, or beside the single volume, named after it."""
        return Path(self.out).with_name(f"{stem(self.out)}.{name}") if self.single else Path(self.out) / name

    def begin(self, images: Images, plan: Mapping[str, Any], *, overwrite: bool) -> Unfinished:
        """The work that is to be done, or to go on with if it has this plan; refuses what exists unless ``overwrite``."""
        out = Path(self.out)
        exists = out.exists() and (self.single or not out.is_dir() or any(out.iterdir()))
        if exists and overwrite and not self.single and not (out / self.record).exists():
            raise UserError(
                f"{out} is not overwritten, since it holds no {self.record} that would tell it is lamella's; choose another output"
            )
        listed = [[item.name, item.path, str(item.volume.box)] for item in images.items]
        return Unfinished.begin(out, {"images": listed, **plan}, exists=exists, overwrite=overwrite)

    @contextmanager
    def creating(self, work: Unfinished, facts: dict[str, Any]) -> Iterator[None]:
        """Volumes are made inside, once the folder is there and empty but for its record; only if ``work.created`` is not yet."""
        with work.creating():
            if not self.single:
                shutil.rmtree(self.out, ignore_errors=True)
                Path(self.out).mkdir(parents=True)
                write_json(Path(self.out) / self.record, facts)
            yield

    def tell(self, facts: dict[str, Any], images: list[dict[str, Any]], left_out: list[str]) -> None:
        """Complete the record of a folder."""
        if not self.single:
            write_json(Path(self.out) / self.record, {**facts, "images": images, "left_out": left_out})


def each(
    images: Images, measure: Callable[[Item], list[T]], skip_bad: bool
) -> tuple[list[tuple[Item, list[T]]], list[str]]:
    """What ``measure`` gives for each image, and one line for each image that cannot be read; refuses to go on with none."""
    good: list[tuple[Item, list[T]]] = []
    left_out = list(images.left_out)
    with progress("measuring intensities", len(images.items), "images") as meter:
        for item in images.items:
            found = attempt(partial(measure, item), item.path, skip_bad)
            if isinstance(found, str):
                left_out.append(found)
            else:
                good.append((item, found))
            meter.advance()
    if not good:
        raise UserError(f"none of the images can be used; the first problem: {left_out[0]}")
    return good, left_out


def create_like(
    item: Item,
    path: str,
    channels: int,
    dtype: str,
    facts: dict[str, Any],
    names: tuple[str, ...] = (),
) -> Volume:
    """An empty volume with places and voxel sizes of ``item`` and ``channels`` of its own, named ``names``; 0: no such axis."""
    own, box = item.volume.meta, item.volume.box
    kept: list[tuple[str, int | None]] = [(axis, k) for k, axis in enumerate(own.axes) if axis != "c"]
    at = 1 if "t" in own.axes else 0
    order = [*kept[:at], ("c", None), *kept[at:]] if channels else kept
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
    stop = tuple(channels if k is None else box.stop[k] for _, k in order)
    sizes = {"c": channels, **_CHUNK}
    chunk = tuple(min(n, sizes.get(axis, 1)) for axis, n in zip(meta.axes, Box(start, stop).shape, strict=True))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return create_volume(path, box=Box(start, stop), dtype=dtype, meta=meta, chunk=chunk, overwrite=True)[0]
