"""Mips of a volume: which axes each one halves, and the job that makes one from the one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod, sqrt
from typing import Any, Literal

from numpy.typing import NDArray

from lamella.blockwise import Block, Cover, cover
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.ops.downsample import downsample_max, downsample_mean, downsample_mode

Reduce = Literal["mean", "present", "mode", "max"]

_REDUCE: dict[str, Callable[..., NDArray[Any]]] = {
    "mean": downsample_mean,
    "present": partial(downsample_mean, ignore_zero=True),  # 0 is missing
    "mode": downsample_mode,
    "max": downsample_max,
}


@dataclass(frozen=True)
class DownsampleJob:
    """Fills the mip ``coarse`` from the mip ``fine``, ``factor`` voxels to one on each axis."""

    fine: Volume
    coarse: Volume
    factor: tuple[int, ...]
    reduce: Reduce

    def blocks(self, num_bytes: int) -> Cover:
        """Blocks of the coarse mip on its chunk grid, that read at most ``num_bytes`` each (but at least one chunk)."""
        voxels = num_bytes // (self.fine.dtype.itemsize * prod(self.factor))
        size = block_size(self.coarse.chunk, self.coarse.box.shape, self.coarse.chunk, voxels)
        return cover(self.coarse.box, size, align=self.coarse.chunk, origin=self.coarse.box.start)

    def read(self, block: Block) -> NDArray[Any]:
        return self.fine.read(self._fine_box(block))

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[Any]:
        return _REDUCE[self.reduce](data, self.factor, start=self._fine_box(block).start)

    def write(self, block: Block, result: NDArray[Any]) -> None:
        self.coarse.write(block.write, result)

    def _fine_box(self, block: Block) -> Box:
        start = tuple(a * f for a, f in zip(block.write.start, self.factor, strict=True))
        stop = tuple(b * f for b, f in zip(block.write.stop, self.factor, strict=True))
        return Box(start, stop).intersect(self.fine.box)


def mip_factors(meta: Meta, box: Box, mips: int, halve: Literal["auto", "yx", "zyx"]) -> list[tuple[int, ...]]:
    """The factors of each mip relative to mip 0, which comes first.

    Every mip halves the axes that ``halve`` names. ``auto`` halves z, y and x where a voxel is not much longer than its shortest
    side, so that 40 x 4 x 4 nm becomes 40 x 8 x 8, 40 x 16 x 16, 40 x 32 x 32, then 80 x 64 x 64. Other axes stay.
    """
    factors = [(1,) * box.ndim]
    size = list(meta.voxel_size)
    for mip in range(1, mips):
        steps = _steps(meta.axes, size, halve)
        coarse = box.scale(factors[-1])
        if all(n == 1 for n, s in zip(coarse.shape, steps, strict=True) if s > 1):
            raise UserError(f"mips {mips} were asked for, but mip {mip - 1} has nothing left to halve; ask for {mip}")
        factors.append(tuple(f * s for f, s in zip(factors[-1], steps, strict=True)))
        size = [v * s for v, s in zip(size, steps, strict=True)]
    return factors


def _steps(axes: Sequence[str], size: Sequence[float], halve: str) -> list[int]:
    if halve != "auto":
        return [2 if a in halve else 1 for a in axes]
    shortest = min(v for a, v in zip(axes, size, strict=True) if a in "zyx")
    return [2 if a in "zyx" and v <= shortest * sqrt(2) else 1 for a, v in zip(axes, size, strict=True)]


def block_size(chunk: Sequence[int], shape: Sequence[int], reach: Sequence[int], voxels: int) -> tuple[int, ...]:
    """A multiple of ``chunk`` that holds at most ``voxels`` voxels of a volume of ``shape``, but at least one chunk.

    It grows by doubling, first along the axes on which it is shortest in units of ``reach``, the shape of what is worth
    reading at once.
    """
    size = list(chunk)
    while room := [i for i, n in enumerate(shape) if size[i] < n]:
        axis = min(room, key=lambda i: (size[i] / reach[i], -i))
        grown = [2 * n if i == axis else n for i, n in enumerate(size)]
        if prod(map(min, grown, shape)) > voxels:
            break
        size = grown
    return tuple(size)
