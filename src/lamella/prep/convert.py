"""Copying a volume into another format, block by block, and making its mips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Cover, Executor, Report, Unfinished, cover, run
from lamella.core.box import parse_box
from lamella.core.errors import UserError
from lamella.core.provenance import provenance
from lamella.core.volume import Meta, Volume
from lamella.io import create_volume, open_volume
from lamella.io.place import Place
from lamella.io.units import long_unit
from lamella.io.views import crop
from lamella.prep.convert_settings import ConvertSettings
from lamella.prep.downsample import DownsampleJob, block_size, mip_factors
from lamella.prep.picked import pick

_MAYBE_LABELS = ("bool", "uint32", "uint64", "int32", "int64")


@dataclass(frozen=True)
class CopyJob:
    """Copies the voxels of ``target`` from ``source``; ``window`` maps values to another type."""

    source: Volume
    target: Volume
    window: tuple[float, float] | None

    def blocks(self, num_bytes: int) -> Cover:
        """Blocks on the target's chunk grid of at most ``num_bytes``, shaped so that few of the source's chunks are read twice."""
        voxels = num_bytes // max(self.source.dtype.itemsize, self.target.dtype.itemsize)
        size = block_size(self.target.chunk, self.target.box.shape, self.source.chunk, voxels)
        return cover(self.target.box, size, align=self.target.chunk, origin=self.target.box.start)

    def read(self, block: Block) -> NDArray[Any]:
        return self.source.read(block.write)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[Any]:
        return as_dtype(data, self.target.dtype, self.window)

    def write(self, block: Block, result: NDArray[Any]) -> None:
        self.target.write(block.write, result)


def convert(
    source: str,
    target: str,
    settings: ConvertSettings | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> list[Report]:
    """Copy the volume at ``source`` to ``target`` and make its mips; one report per mip.

    Coordinates, axes, voxel size, units and channel names are kept, and the provenance tells of the source's. Memory is bounded by
    the blocks under way. A conversion that was killed goes on when it is repeated with the same settings.

    Raises UserError before anything is written for what does not exist or does not fit, and for an output that exists.
    """
    settings, executor = settings or ConvertSettings(), executor or Executor()
    volume = _opened(source, settings)
    dtype = _dtype(volume, settings)
    window = _window(settings)
    meta = _meta(volume.meta, settings)
    factors = mip_factors(meta, volume.box, settings.mips, settings.halve)
    plan = {"source": volume.path, "box": str(volume.box), "settings": settings.to_dict(), "factors": factors}
    part = _begin(source, target, plan, overwrite)
    if not part.created:
        with part.creating():
            _create(target, volume, meta, dtype, factors, settings)
    mips = [open_volume(target, mip=k, writable=True) for k in range(settings.mips)]
    num_bytes = int(settings.block_mib * 2**20)
    copy = CopyJob(volume, mips[0], window)
    reports = [run(copy, copy.blocks(num_bytes), label="copying", ledger=part.ledger("mip0"), executor=executor)]
    for k, (fine, coarse) in enumerate(pairwise(mips), 1):
        step = tuple(b // a for a, b in zip(factors[k - 1], factors[k], strict=True))
        job = DownsampleJob(fine, coarse, step, settings.reduce)
        reports.append(
            run(job, job.blocks(num_bytes), label=f"mip {k}", ledger=part.ledger(f"mip{k}"), executor=executor)
        )
    part.finish()
    return reports


def as_dtype(array: NDArray[Any], dtype: np.dtype[Any], window: tuple[float, float] | None = None) -> NDArray[Any]:
    """``array`` as ``dtype``, never silently another value.

    Without ``window``, floats are rounded for an integer type, and a value that the type does not hold is a UserError. With
    ``window`` (low, high), values are mapped linearly to 0 and the type's maximum (1 for floats), and cut to that range.

    >>> as_dtype(np.array([90, 100, 150, 900]), np.dtype(np.uint8), (100.0, 200.0)).tolist()
    [0, 0, 128, 255]
    """
    if window is not None:
        low, high = window
        if np.isnan(array).any():
            raise UserError(f"a value that is no number (NaN) cannot be mapped to {dtype}; replace it in the source")
        mapped = np.clip((array.astype(np.float64) - low) / (high - low), 0, 1)
        return np.rint(mapped * np.iinfo(dtype).max).astype(dtype) if dtype.kind in "iu" else mapped.astype(dtype)
    if np.can_cast(array.dtype, dtype, "same_kind" if array.dtype.kind == dtype.kind == "f" else "safe"):
        return array.astype(dtype, copy=False)
    rounded = np.rint(array) if array.dtype.kind == "f" else array
    least, most = _exact_range(dtype)
    fits = (rounded >= least) & (rounded < float(most) + 1 if array.dtype.kind == "f" else rounded <= most)
    if not fits.all():
        value = array[~fits].flat[0]
        raise UserError(
            f"value {value} does not fit {dtype}; choose a wider dtype, or map values with --window LOW,HIGH"
        )
    return rounded.astype(dtype)


def _exact_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The whole numbers that ``dtype`` holds, each of them exactly."""
    if dtype.kind == "f":
        highest = 2 ** (np.finfo(dtype).nmant + 1)
        return -highest, highest
    return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def _opened(source: str, settings: ConvertSettings) -> Volume:
    """What is to be copied, with the metadata that the copy shall have."""
    volume = open_volume(source, mip=settings.mip, dataset=settings.dataset)
    volume = pick(volume, "n", settings.sample, "sample")
    volume = pick(volume, "c", settings.channel, "channel")
    volume = pick(volume, "t", settings.time, "time")
    return crop(volume, parse_box(settings.bbox, volume.box)) if settings.bbox else volume


def _dtype(volume: Volume, settings: ConvertSettings) -> np.dtype[Any]:
    """The type to store, after a look at whether mips of it make sense."""
    try:
        dtype = np.dtype(settings.dtype) if settings.dtype else volume.dtype
    except TypeError:
        raise UserError(f"dtype {settings.dtype!r} is not a type; write for example uint8, uint16 or float32") from None
    if dtype.kind not in "biuf":
        raise UserError(f"dtype {dtype} holds no numbers; write for example uint8, uint16 or float32")
    if settings.window and (dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize > 4)):
        raise UserError(f"a window cannot map to {dtype}; choose uint8, uint16, uint32 or a float with --dtype")
    undecided = settings.labels is None and settings.reduce == "mean"
    if settings.mips > 1 and undecided and dtype.name in _MAYBE_LABELS:
        raise UserError(
            f"mips of {dtype} are made otherwise for labels than for images; say --labels, --masks, or --no-labels for an image"
        )
    return dtype


def _window(settings: ConvertSettings) -> tuple[float, float] | None:
    if settings.window is None:
        return None
    low, high = _numbers(settings.window, 2, "window", "0,65535")
    if not low < high:
        raise UserError(f"window {settings.window} must be LOW,HIGH with LOW below HIGH")
    return low, high


def _numbers(text: str, count: int, name: str, example: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise UserError(f"{name} {text!r} must be {count} numbers with commas between; write for example {example}")
    return numbers


def _begin(source: str, target: str, plan: dict[str, Any], overwrite: bool) -> Unfinished:
    """Begin the output, or go on with a part of it."""
    place = Place.parse(target)
    path = place.local
    if path is None:
        return Unfinished.begin(place.url, plan, exists=_is_volume(target), overwrite=overwrite)
    path = path.parent if "*" in path.name else path
    local = Place.parse(source).local
    if local is not None and path.resolve() in (local.resolve(), *local.resolve().parents):
        raise UserError(f"output {target} is the source, or holds it; choose another name")
    return Unfinished.begin(path, plan, exists=_is_there(path), overwrite=overwrite)


def _is_there(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _is_volume(target: str) -> bool:
    try:
        open_volume(target)
    except UserError:
        return False
    return True


def _create(
    target: str,
    volume: Volume,
    meta: Meta,
    dtype: np.dtype[Any],
    factors: Sequence[tuple[int, ...]],
    settings: ConvertSettings,
) -> None:
    facts: dict[str, Any] = {"source": volume.path, "settings": settings.model_dump(mode="json", exclude_defaults=True)}
    if volume.meta.provenance:
        facts["source_provenance"] = dict(volume.meta.provenance)
    meta = replace(meta, provenance=provenance(**facts))
    kind = settings.kind
    if settings.ome_version:
        if not target.rstrip("/").endswith(".zarr"):
            raise UserError(
                f"OME-Zarr {settings.ome_version} was asked for, but {target} does not end in .zarr; name it so"
            )
        kind = f"ome-zarr-{settings.ome_version}"
    chunk = _chunk(volume, settings)
    create_volume(
        target, box=volume.box, dtype=dtype, meta=meta, chunk=chunk, mips=list(factors), kind=kind, overwrite=True
    )


def _meta(meta: Meta, settings: ConvertSettings) -> Meta:
    spatial = [i for i, a in enumerate(meta.axes) if a in "zyx"]
    size, units = list(meta.voxel_size), list(meta.units)
    if settings.voxel_size:
        numbers = _numbers(settings.voxel_size, len(spatial), "voxel size", "50,4,4"[-2 * len(spatial) + 1 :])
        for i, number in zip(spatial, numbers, strict=True):
            size[i] = number
    if settings.unit:
        for i in spatial:
            units[i] = long_unit(settings.unit)
    return replace(meta, voxel_size=tuple(size), units=tuple(units))


def _chunk(volume: Volume, settings: ConvertSettings) -> tuple[int, ...] | None:
    """The chunk asked for; lengths that are left out are those of the source's own chunk."""
    if settings.chunk is None:
        return None
    lengths = settings.chunk.split(",")
    if len(lengths) > volume.box.ndim or not all(n.strip().isdigit() and int(n) for n in lengths):
        raise UserError(
            f"chunk {settings.chunk!r} must be at most {volume.box.ndim} whole numbers above 0; write for example 64,256,256"
        )
    return (*volume.chunk[: volume.box.ndim - len(lengths)], *(int(n) for n in lengths))
