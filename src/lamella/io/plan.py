"""What a new volume shall be, and the record of it that lamella leaves in the file.

A mip is ``factor`` times coarser than mip 0. Its voxel ``i`` covers the voxels ``factor * i`` up to ``factor * i + factor - 1`` of
mip 0, so its voxel size is ``factor`` times larger and its voxel 0 lies ``(factor - 1) / 2`` voxels further on. A box that does
not start at zero keeps its coordinates: they are recorded, and told to other readers as a translation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta

KEY = "lamella"  # name of the record in group attributes, info files and descriptions
AXES = "ntczyx"  # the order in which axes may stand

_SECTION = (
    512  # side of a default chunk; 256 KiB of uint8, small enough for tiles and large enough for a file of its own
)


@dataclass(frozen=True)
class Plan:
    """A new volume: ``box``, ``meta`` and ``chunk`` are those of mip 0, ``factors`` has one entry per mip."""

    box: Box
    dtype: np.dtype[Any]
    meta: Meta
    chunk: tuple[int, ...]
    factors: tuple[tuple[int, ...], ...]

    @property
    def boxes(self) -> list[Box]:
        return [self.box.scale(f) for f in self.factors]

    @property
    def metas(self) -> list[Meta]:
        return [meta_at(self.meta, f) for f in self.factors]

    @property
    def chunks(self) -> list[tuple[int, ...]]:
        return [tuple(min(c, n) for c, n in zip(self.chunk, b.shape, strict=True)) for b in self.boxes]

    def record(self) -> dict[str, Any]:
        """What ``recorded`` reads back; plain JSON."""
        m = self.meta
        values = {
            "axes": "".join(m.axes),
            "dtype": self.dtype.name,
            "start": self.box.start,
            "stop": self.box.stop,
            "factors": self.factors,
            "voxel_size": m.voxel_size,
            "units": m.units,
            "translation": m.translation,
            "channel_names": m.channel_names,
            "name": m.name,
            "provenance": dict(m.provenance),
        }
        return dict(json.loads(json.dumps(values, default=str)))


@dataclass(frozen=True)
class Recorded:
    """A record read back: metadata and box of mip 0, and the mips' factors."""

    meta: Meta
    box: Box
    factors: tuple[tuple[int, ...], ...]


def recorded(record: Mapping[str, Any] | None) -> Recorded | None:
    """Read what ``Plan.record`` gave; None if there is no such record."""
    if not isinstance(record, Mapping) or "axes" not in record:
        return None
    meta = Meta(
        axes=tuple(record["axes"]),
        voxel_size=tuple(float(v) for v in record["voxel_size"]),
        units=tuple(record["units"]),
        channel_names=tuple(record["channel_names"]),
        name=record["name"],
        translation=tuple(float(v) for v in record["translation"]),
        provenance=record["provenance"],
    )
    box = Box(tuple(record["start"]), tuple(record["stop"]))
    return Recorded(meta, box, tuple(tuple(f) for f in record["factors"]))


def make_plan(
    box: Box, dtype: Any, meta: Meta, chunk: Sequence[int] | None = None, mips: int | Sequence[Sequence[int]] = 1
) -> Plan:
    """Check what was asked for and fill in the chunk and the factors of the mips."""
    _check(box, meta)
    factors = mip_factors(meta.axes, mips) if isinstance(mips, int) else tuple(tuple(f) for f in mips)
    if not factors or any(len(f) != box.ndim or min(f) < 1 for f in factors) or set(factors[0]) != {1}:
        raise UserError(
            f"mips {factors} must be factors of at least 1 for each of the axes {''.join(meta.axes)}, all 1 first"
        )
    chunk = default_chunk(meta.axes, box.shape) if chunk is None else tuple(int(c) for c in chunk)
    if len(chunk) != box.ndim or min(chunk) < 1:
        raise UserError(f"chunk {chunk} must have {box.ndim} lengths of at least 1, for the axes {''.join(meta.axes)}")
    return Plan(box, np.dtype(dtype), meta, tuple(min(c, n) for c, n in zip(chunk, box.shape, strict=True)), factors)


def _check(box: Box, meta: Meta) -> None:
    axes = "".join(meta.axes)
    if sorted(axes, key=AXES.find) != list(axes) or len(set(axes)) != len(axes) or not set(axes) <= set(AXES):
        raise UserError(f"axes {axes!r} must be letters of {AXES!r} in that order, each once")
    if len(axes) != box.ndim or box.is_empty:
        raise UserError(f"box {box} must hold voxels on each of the axes {axes}")
    if len(meta.voxel_size) != len(axes) or len(meta.units) != len(axes) or min(meta.voxel_size) <= 0:
        raise UserError(
            f"voxel size {meta.voxel_size} and units {meta.units} must be given for each of the axes {axes}"
        )
    num_channels = box.shape[axes.index("c")] if "c" in axes else 1
    if meta.channel_names and len(meta.channel_names) != num_channels:
        raise UserError(f"channel names {meta.channel_names} must be as many as the channels, {num_channels}")


def mip_factors(axes: Sequence[str], mips: int) -> tuple[tuple[int, ...], ...]:
    """The usual mips of serial sections: each halves y and x and leaves the other axes.

    >>> mip_factors("zyx", 3)
    ((1, 1, 1), (1, 2, 2), (1, 4, 4))
    """
    if mips < 1:
        raise UserError(f"mips {mips} must be at least 1, which is the volume itself")
    return tuple(tuple(2**k if a in "yx" else 1 for a in axes) for k in range(mips))


def default_chunk(axes: Sequence[str], shape: Sequence[int]) -> tuple[int, ...]:
    """One section thick, so that sections can be written alone; up to four channels together."""
    full = {"y": _SECTION, "x": _SECTION, "c": 4}
    return tuple(min(n, full.get(a, 1)) for a, n in zip(axes, shape, strict=True))


def meta_at(meta: Meta, factor: Sequence[int | float]) -> Meta:
    """Metadata of a mip that is ``factor`` times coarser."""
    moved = tuple(t + (f - 1) / 2 * v for t, f, v in zip(translation_of(meta), factor, meta.voxel_size, strict=True))
    size = tuple(v * f for v, f in zip(meta.voxel_size, factor, strict=True))
    return replace(meta, voxel_size=size, translation=moved if any(moved) else ())


def translation_of(meta: Meta) -> tuple[float, ...]:
    """Where voxel 0 lies, written out."""
    return meta.translation or (0.0,) * len(meta.axes)
