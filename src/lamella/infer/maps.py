"""Maps of a volume of any size, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Crew, Executor, Report, cover, run
from lamella.blockwise.blocks import Cover
from lamella.core.box import Box
from lamella.core.progress import Meter
from lamella.core.volume import Volume
from lamella.data.labelled_source import Part


@runtime_checkable
class SpaceOp(Protocol):
    """An op for (c, z, y, x) that can tell what it is."""

    context: tuple[int, ...]
    stride: tuple[int, ...]

    def __call__(self, patch: NDArray[Any]) -> NDArray[np.float32]: ...

    def identity(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Target:
    """Where results (z, y, x), or (k, z, y, x) if the volume has channels, go: one time point of ``volume``.

    Boxes count from the volume's first voxel.
    """

    volume: Volume
    time: int | None = None

    @property
    def chunk(self) -> tuple[int, ...]:
        """Voxels (z, y, x) of the smallest piece that two blocks must not share; 1 where a piece is as long as the volume, as in
        TIFF, which is written in place."""
        sizes = zip(self.volume.meta.axes, self.volume.chunk, self.volume.box.shape, strict=True)
        pieces = {axis: chunk for axis, chunk, length in sizes if chunk < length}
        return tuple(pieces.get(axis, 1) for axis in "zyx")

    def write(self, box: Box, array: NDArray[Any]) -> None:
        """Store ``array`` of ``box`` (z, y, x)."""
        axes = self.volume.meta.axes
        kept = [a for a in ("czyx" if array.ndim == 4 else "zyx") if a in axes]
        squeezed = array if "z" in axes else array.squeeze(-3)
        assert [a for a in axes if a != "t"] == kept
        self.volume.write(self._inner(box), squeezed[None] if "t" in axes else squeezed)

    def read(self, box: Box) -> NDArray[Any]:
        """``box`` (z, y, x) of a volume without channels."""
        return self.volume.read(self._inner(box)).reshape(box.shape)

    def _inner(self, box: Box) -> Box:
        ranges = dict(zip("zyx", zip(box.start, box.stop, strict=True), strict=True))
        whole, start, stop = self.volume.box, [], []
        for axis, first, last in zip(self.volume.meta.axes, whole.start, whole.stop, strict=True):
            low, high = (
                (self.time, self.time + 1)
                if axis == "t" and self.time is not None
                else ranges.get(axis, (0, last - first))
            )
            start.append(first + low)
            stop.append(first + high)
        return Box(tuple(start), tuple(stop))


@dataclass(frozen=True)
class MapsJob:
    """Reads a block with its context, applies the op, and writes the maps."""

    source: Part
    op: SpaceOp
    out: Target

    def identity(self) -> dict[str, Any]:
        return {"source": self.source.volume.path, "time": self.source.time, "op": self.op.identity()}

    def read(self, block: Block) -> NDArray[Any]:
        return self.source.read(block.read)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[np.float32]:
        return self.op(data)[(slice(None), *block.inside)]

    def write(self, block: Block, result: NDArray[np.float32]) -> None:
        self.out.write(block.write, result)


def blocks_of(
    source: Part,
    op: SpaceOp,
    size: Sequence[int],
    extra: int | Sequence[int] = 0,
    chunk: Sequence[int] = (1, 1, 1),
) -> Cover:
    """Blocks of about ``size`` (z, y, x) voxels on the op's grid, reading its context and ``extra`` voxels more.

    No two blocks share a piece of ``chunk`` voxels.
    """
    whole = Box.of(source.box.shape)
    more = (extra,) * 3 if isinstance(extra, int) else tuple(extra)
    wanted = [c + e for c, e in zip(op.context, more, strict=True)]
    context = [-(-n // s) * s for n, s in zip(wanted, op.stride, strict=True)]
    align = [lcm(s, c) for s, c in zip(op.stride, chunk, strict=True)]
    return cover(whole, tuple(size), context, bounds=whole, align=align)


def predict_maps(
    source: Part,
    op: SpaceOp,
    out: Target,
    *,
    size: Sequence[int] = (16, 1024, 1024),
    executor: Executor | Crew | None = None,
    ledger: Path | None = None,
    meter: Meter | None = None,
) -> Report:
    """Fill ``out`` (float32, k channels) with the maps of ``source``, holding a few blocks of ``size`` in memory.

    With a ``ledger`` an interrupted job goes on where it stopped.
    """
    blocks = blocks_of(source, op, size, chunk=out.chunk)
    job = MapsJob(source, op, out)
    return run(job, blocks, label="predicting maps", ledger=ledger, executor=executor, meter=meter)
