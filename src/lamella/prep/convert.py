"""Copying a volume into another format, block by block, and making its mips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Cover, Crew, Executor, Report, Unfinished, cover, run
from lamella.core.box import parse_box
from lamella.core.errors import UserError
from lamella.core.provenance import provenance
from lamella.core.volume import Meta, Volume
from lamella.io import create_volume, open_volume
from lamella.io.place import Place
from lamella.io.positions import layout_of, positions_of
from lamella.io.units import long_unit
from lamella.io.views import crop
from lamella.prep.convert_settings import ConvertSettings
from lamella.prep.downsample import DownsampleJob, block_size, mip_factors
from lamella.prep.picked import pick

MAYBE_LABELS = ("bool", "uint32", "uint64", "int32", "int64")


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
    by_position = positions_to_copy(source, target, settings)
    if by_position is not None:
        from lamella.prep.convert_positions import convert_positions  # which is made of the parts below

        return convert_positions(source, target, by_position, settings, overwrite=overwrite, executor=executor)
    planned = plan_copy(opened(source, settings), settings)
    plan = {"source": planned.volume.path, "settings": settings.to_dict(), **planned.facts()}
    part = begin(source, target, plan, overwrite)
    if not part.created:
        with part.creating():
            _create(target, planned, settings)
    mips = [open_volume(target, mip=k, writable=True) for k in range(settings.mips)]
    reports = fill(planned, mips, settings, part, executor)
    part.finish()
    return reports


@dataclass(frozen=True)
class Planned:
    """A volume to copy, and what the copy shall be."""

    volume: Volume
    meta: Meta
    dtype: np.dtype[Any]
    window: tuple[float, float] | None
    factors: list[tuple[int, ...]]

    def facts(self) -> dict[str, Any]:
        """What a copy that goes on must have in common with its beginning."""
        return {"box": str(self.volume.box), "factors": self.factors}


def plan_copy(volume: Volume, settings: ConvertSettings) -> Planned:
    """What the copy of ``volume`` shall be; raises UserError for what does not fit."""
    dtype, window = _dtype(volume, settings), _window(settings)
    meta = _meta(volume.meta, settings)
    facts: dict[str, Any] = {"source": volume.path, "settings": settings.model_dump(mode="json", exclude_defaults=True)}
    if volume.meta.provenance:
        facts["source_provenance"] = dict(volume.meta.provenance)
    factors = mip_factors(meta, volume.box, settings.mips, settings.halve)
    return Planned(volume, replace(meta, provenance=provenance(**facts)), dtype, window, factors)


def fill(
    planned: Planned,
    mips: Sequence[Volume],
    settings: ConvertSettings,
    part: Unfinished,
    executor: Executor | Crew,
    name: str = "",
) -> list[Report]:
    """Copy into the first of ``mips`` and make the others; ``name`` tells the ledgers of several copies apart."""
    num_bytes, of = int(settings.block_mib * 2**20), f" {name}" if name else ""
    prefix = f"{name.replace('/', '-')}-" if name else ""
    copy = CopyJob(planned.volume, mips[0], planned.window)
    ledger = part.ledger(f"{prefix}mip0")
    reports = [run(copy, copy.blocks(num_bytes), label=f"copying{of}", ledger=ledger, executor=executor)]
    for k, (fine, coarse) in enumerate(pairwise(mips), 1):
        step = tuple(b // a for a, b in zip(planned.factors[k - 1], planned.factors[k], strict=True))
        job = DownsampleJob(fine, coarse, step, settings.reduce)
        ledger = part.ledger(f"{prefix}mip{k}")
        reports.append(run(job, job.blocks(num_bytes), label=f"mip {k}{of}", ledger=ledger, executor=executor))
    return reports


def positions_to_copy(source: str, target: str, settings: ConvertSettings) -> tuple[str, ...] | None:
    """The data sets to copy as positions of frames or a plate; None where the copy is a single volume."""
    names = positions_of(source) if settings.dataset is None else (settings.dataset,)
    if len(names) < 2 and settings.kind is None and "*" not in target:
        return None
    return (names or ("",)) if layout_of(target, settings.kind, len(names)) else None


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


def opened(source: str, settings: ConvertSettings) -> Volume:
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
    if settings.mips > 1 and undecided and dtype.name in MAYBE_LABELS:
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


def begin(source: str, target: str, plan: dict[str, Any], overwrite: bool) -> Unfinished:
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


def _create(target: str, planned: Planned, settings: ConvertSettings) -> None:
    kind = settings.kind
    if settings.ome_version:
        if not target.rstrip("/").endswith(".zarr"):
            raise UserError(
                f"OME-Zarr {settings.ome_version} was asked for, but {target} does not end in .zarr; name it so"
            )
        kind = f"ome-zarr-{settings.ome_version}"
    create_volume(
        target,
        box=planned.volume.box,
        dtype=planned.dtype,
        meta=planned.meta,
        chunk=chunk_of(planned.volume, settings),
        mips=planned.factors,
        kind=kind,
        overwrite=True,
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


def chunk_of(volume: Volume, settings: ConvertSettings) -> tuple[int, ...] | None:
    """The chunk asked for; lengths that are left out are those of the source's own chunk."""
    if settings.chunk is None:
        return None
    lengths = settings.chunk.split(",")
    if len(lengths) > volume.box.ndim or not all(n.strip().isdigit() and int(n) for n in lengths):
        raise UserError(
            f"chunk {settings.chunk!r} must be at most {volume.box.ndim} whole numbers above 0; write for example 64,256,256"
        )
    return (*volume.chunk[: volume.box.ndim - len(lengths)], *(int(n) for n in lengths))
