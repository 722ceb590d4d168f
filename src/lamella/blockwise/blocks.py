"""Blocks: a box cut into pieces that are each written once, and the larger pieces that are read for them.

```
|-----------------------|   box
|wwwwwwww|rr|               block 0
      |rr|wwwwwwww|rr|      block 1
               |rr|wwwww|   block 2, clipped to bounds on the right
```

Laws: the write boxes of a cover partition its box (every voxel in exactly one); each read box is its write box grown by the
context and clipped to ``bounds``; with ``align`` no two write boxes share a piece of the grid of that shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import overload

from lamella.core.box import Box
from lamella.core.errors import UserError


@dataclass(frozen=True)
class Block:
    """One piece of work: the voxels to write, and those to read for it. ``index`` is its place in the cover."""

    index: int
    write: Box
    read: Box

    @property
    def inside(self) -> tuple[slice, ...]:
        """Where the write box lies in an array of the read box."""
        return self.write.slices(self.read.start)


@dataclass(frozen=True)
class Cover(Sequence[Block]):
    """The blocks of a box, worked out when asked for; the last axis runs fastest. Made by :func:`cover`."""

    box: Box
    size: tuple[int, ...]
    context: tuple[int, ...]
    bounds: Box | None
    anchor: tuple[int, ...]  # where block (0, 0, ...) of the grid starts; at most one aligned piece before the box

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each axis."""
        if self.box.is_empty:
            return (0,) * self.box.ndim
        return tuple(-(-(b - a) // n) for a, b, n in zip(self.anchor, self.box.stop, self.size, strict=True))

    @cached_property
    def _length(self) -> int:
        return prod(self.counts)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> list[Block]: ...
    def __getitem__(self, index: int | slice) -> Block | list[Block]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        index %= len(self)
        write = self._write_box(index)
        read = write.grow(self.context)
        return Block(index, write, read if self.bounds is None else read.intersect(self.bounds))

    def __iter__(self) -> Iterator[Block]:
        return (self[i] for i in range(len(self)))

    def _write_box(self, index: int) -> Box:
        start, stop = [], []
        for axis in reversed(range(self.box.ndim)):
            index, place = divmod(index, self.counts[axis])
            first = self.anchor[axis] + place * self.size[axis]
            start.append(max(first, self.box.start[axis]))
            stop.append(min(first + self.size[axis], self.box.stop[axis]))
        return Box(tuple(start[::-1]), tuple(stop[::-1]))


def cover(
    box: Box,
    size: int | Sequence[int],
    context: int | Sequence[int] = 0,
    *,
    bounds: Box | None = None,
    align: int | Sequence[int] | None = None,
    origin: Sequence[int] | None = None,
) -> Cover:
    """Cut ``box`` into blocks of ``size`` voxels that read ``context`` voxels more on every side.

    ``bounds`` is what exists to be read, usually the volume's box; without it read boxes reach past the edges.

    ``align`` is the shape of the smallest piece that can be written alone, a volume's ``chunk``: sizes are rounded up to a
    multiple of it, and blocks start on its grid, so that no two blocks touch one chunk (the first and last may be smaller).
    The grid starts at ``origin``: by default where ``bounds`` starts, else at voxel zero.

    >>> [str(b.write) for b in cover(Box.of((10,)), 4)]
    ['0:4', '4:8', '8:10']
    >>> [str(b.write) for b in cover(Box((3,), (10,)), 4, align=2)]
    ['3:6', '6:10']
    """
    steps = _per_axis(1 if align is None else align, box, "align", least=1)
    sizes = _per_axis(size, box, "block size", least=1)
    sizes = tuple(-(-n // a) * a for n, a in zip(sizes, steps, strict=True))
    contexts = _per_axis(context, box, "context", least=0)
    if origin is None:
        origin = bounds.start if bounds is not None else (0,) * box.ndim
    anchor = tuple(o + (s - o) // a * a for s, o, a in zip(box.start, origin, steps, strict=True))
    return Cover(box, sizes, contexts, bounds, anchor)


def _per_axis(value: int | Sequence[int], box: Box, name: str, least: int) -> tuple[int, ...]:
    values = (value,) * box.ndim if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != box.ndim or min(values, default=least) < least:
        raise UserError(f"{name} {values} must be {box.ndim} whole numbers of at least {least}, one per axis of {box}")
    return values
