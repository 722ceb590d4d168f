"""Windows: where a training patch of a given shape may lie.

A window is named by its first voxel. Those that fit into a box and touch none of the excluded boxes form a few boxes of first voxels
that do not overlap, so their number is known and one can be drawn with equal chances, however oddly the exclusions lie:

```
box        |..............|    window of 3, excluded ##
excluded   |.....##.......|
starts     |sss....sssss..|
```
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from lamella.core.box import Box


@dataclass(frozen=True)
class Windows:
    """All windows of ``shape`` that may be drawn; ``starts`` are disjoint boxes of first voxels."""

    shape: tuple[int, ...]
    starts: tuple[Box, ...]

    def __len__(self) -> int:
        return sum(s.size for s in self.starts)

    def __getitem__(self, index: int) -> Box:
        """Window number ``index``, counting through the boxes of starts in turn."""
        for ends, starts in zip(accumulate(s.size for s in self.starts), self.starts, strict=True):
            if 0 <= index < ends:
                place = np.unravel_index(index - (ends - starts.size), starts.shape)
                first = tuple(int(a + p) for a, p in zip(starts.start, place, strict=True))
                return Box(first, tuple(a + n for a, n in zip(first, self.shape, strict=True)))
        raise IndexError(f"window {index} of {len(self)}")

    def draw(self, rng: np.random.Generator) -> Box:
        """One window, each as likely as the others."""
        return self[int(rng.integers(len(self)))]


def windows(box: Box, shape: Sequence[int], excluded: Iterable[Box] = ()) -> Windows:
    """The windows of ``shape`` inside ``box`` that share no voxel with any of the ``excluded`` boxes; maybe none.

    >>> windows(Box.of((14,)), (3,), [Box((5,), (7,))]).starts
    (Box(start=(0,), stop=(3,)), Box(start=(7,), stop=(12,)))
    """
    starts = [Box(box.start, tuple(b - n + 1 for b, n in zip(box.stop, shape, strict=True)))]
    for hole in excluded:
        touching = Box(tuple(a - n + 1 for a, n in zip(hole.start, shape, strict=True)), hole.stop)
        starts = [piece for s in starts for piece in without(s, touching)]
    return Windows(tuple(shape), tuple(s for s in starts if not s.is_empty))


def without(box: Box, hole: Box) -> list[Box]:
    """``box`` less ``hole``, as boxes that do not overlap."""
    inner = box.intersect(hole)
    if inner.is_empty:
        return [box]
    pieces, rest = [], box
    for axis in range(box.ndim):
        pieces.append(_cut(rest, axis, rest.start[axis], inner.start[axis]))
        pieces.append(_cut(rest, axis, inner.stop[axis], rest.stop[axis]))
        rest = _cut(rest, axis, inner.start[axis], inner.stop[axis])
    return [p for p in pieces if not p.is_empty]


def _cut(box: Box, axis: int, low: int, high: int) -> Box:
    return Box(
        (*box.start[:axis], low, *box.start[axis + 1 :]),
        (*box.stop[:axis], high, *box.stop[axis + 1 :]),
    )
