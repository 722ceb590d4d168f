"""Instances of volumes larger than memory, equal to those of the whole up to renumbering.

```
1. Pieces   image block + context -> maps -> pieces of objects, stored with a table and links to other blocks     (any order)
2. join     links looked up in the neighbours' pieces -> which pieces are one object                               (tables alone)
3. Render   pieces -> numbers of objects, 1, 2, ... over the whole volume                                          (any order)
```

What crosses a block's edge is followed by links, not guessed from an overlap: see ``lamella.ops.instances`` for why this is exact.
Memory holds a few blocks and the tables, about 100 bytes per object.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block
from lamella.blockwise.blocks import Cover
from lamella.core.box import Box
from lamella.core.files import replacing
from lamella.core.progress import progress
from lamella.data.image_source import Part
from lamella.infer.maps import SpaceOp, Target
from lamella.ops.instances import Links, Method, Parts, Pieces

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Maker:
    """From maps (k, z, y, x) by name to instances: of each section by itself if ``flat``, else of volumes."""

    method: Method
    names: tuple[str, ...]
    voxel_size: tuple[float, ...] | None
    flat: bool

    @property
    def context(self) -> tuple[int, int, int]:
        """Voxels around a block that its pieces depend on."""
        reach = self.method.context
        return (0 if self.flat else reach, reach, reach)

    def whole(self, maps: Maps) -> NDArray[np.int32]:
        """The instances (z, y, x) of all maps."""
        if not self.flat:
            return self.method(self._named(maps), self.voxel_size)
        found, last = [], 0
        for z in range(maps.shape[1]):
            labels = self.method(self._named(maps[:, z]), self.voxel_size)
            found.append(np.where(labels > 0, labels + last, 0).astype(np.int32))
            last += int(labels.max(initial=0))
        return np.stack(found)

    def parts(self, maps: Maps, write: Box, read: Box) -> Parts:
        """The pieces of ``write`` from the maps of ``read``; flat blocks have one section."""
        if not self.flat:
            return self.method.parts(self._named(maps), write, read, self.voxel_size)
        z = write.start[0]
        inner, outer = (Box(box.start[1:], box.stop[1:]) for box in (write, read))
        found = self.method.parts(self._named(maps[:, 0]), inner, outer, self.voxel_size)
        pieces = Pieces(found.pieces.sizes, _at(z, found.pieces.peaks), found.pieces.heights)
        links = Links(found.links.labels, _at(z, found.links.voxels), found.links.saddles)
        return Parts(found.labels[None], pieces, links)

    def _named(self, maps: Maps) -> dict[str, Maps]:
        return dict(zip(self.names, maps, strict=True))


def _at(z: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.insert(places, 0, z, axis=1)


@dataclass(frozen=True)
class PiecesJob:
    """Stage 1. ``maps`` is where the maps go too, if they are wanted."""

    source: Part
    op: SpaceOp
    maker: Maker
    pieces: Target
    tables: Path
    maps: Target | None

    def identity(self) -> dict[str, Any]:
        return {"source": self.source.volume.path, "time": self.source.time, "op": self.op.identity()}

    def read(self, block: Block) -> NDArray[Any]:
        return self.source.read(block.read)

    def compute(self, block: Block, data: NDArray[Any]) -> tuple[Maps | None, Parts]:
        maps = self.op(data)
        seen = block.write.grow(self.maker.context).intersect(block.read)
        parts = self.maker.parts(maps[(slice(None), *seen.slices(block.read.start))], block.write, seen)
        return (maps[(slice(None), *block.inside)] if self.maps is not None else None), parts

    def write(self, block: Block, result: tuple[Maps | None, Parts]) -> None:
        maps, parts = result
        if self.maps is not None and maps is not None:
            self.maps.write(block.write, maps)
        self.pieces.write(block.write, parts.labels)
        with replacing(self.tables / f"{block.index}.npz") as beside:
            tables = {**vars(parts.pieces), **{f"link_{k}": v for k, v in vars(parts.links).items()}}
            np.savez(beside, **tables)


@dataclass(frozen=True)
class Joined:
    """The object of every piece: of those of block ``i``, ``objects[first[i]:first[i + 1]]``; 0 for objects that were dropped."""

    objects: NDArray[np.int32]
    first: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of objects."""
        return int(self.objects.max(initial=0))

    def table(self, index: int) -> NDArray[np.int32]:
        """What each label of block ``index`` becomes."""
        return np.concatenate([np.zeros(1, np.int32), self.objects[self.first[index] : self.first[index + 1]]])


def join(method: Method, blocks: Cover, pieces: Target, tables: Path, saved: Path) -> Joined:
    """Stage 2: which pieces are one object. The result is kept in ``saved``, and read from there if it exists."""
    if saved.exists():
        with np.load(saved) as found:
            return Joined(found["objects"], found["first"])
    all_pieces, all_links = [], []
    with progress("reading tables", len(blocks)) as meter:
        for index in range(len(blocks)):
            with np.load(tables / f"{index}.npz") as found:
                all_pieces.append(Pieces(*(found[k] for k in ("sizes", "peaks", "heights"))))
                all_links.append(Links(*(found[f"link_{k}"] for k in ("labels", "voxels", "saddles"))))
            meter.advance()
    first = np.concatenate([[0], np.cumsum([len(p) for p in all_pieces])]).astype(np.int64)
    own = np.concatenate([n + links.labels - 1 for n, links in zip(first, all_links, strict=False)])
    links = Links.stack(all_links)
    other = _looked_up(links.voxels, blocks, pieces, first)
    met = (
        other >= 0
    )  # where two blocks saw a voxel on different sides of a threshold, by rounding, one has no piece there
    objects = method.join(Pieces.stack(all_pieces), np.stack([own, other], 1)[met], links.saddles[met])
    with replacing(saved) as beside:
        np.savez(beside, objects=objects, first=first)
    return Joined(objects, first)


def _looked_up(voxels: NDArray[np.int64], blocks: Cover, pieces: Target, first: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of the piece at each voxel, -1 where there is none; each block is read once."""
    rows = np.full(len(voxels), -1, np.int64)
    cells = (voxels - np.array(blocks.anchor)) // np.array(blocks.size)
    numbers = np.ravel_multi_index(tuple(cells.T), blocks.counts) if len(voxels) else np.zeros(0, np.int64)
    order = np.argsort(numbers, kind="stable")
    wanted, starts = np.unique(numbers[order], return_index=True)
    with progress("joining blocks", len(wanted)) as meter:
        for index, here in zip(wanted.tolist(), np.split(order, starts[1:]), strict=False):
            box = blocks[index].write
            labels = pieces.read(box)[tuple((voxels[here] - np.array(box.start)).T)]
            rows[here] = np.where(labels > 0, first[index] + labels - 1, -1)
            meter.advance()
    return rows


@dataclass(frozen=True)
class RenderJob:
    """Stage 3. ``first`` is where the blocks of ``pieces`` begin in ``joined``; a block here may span several of those."""

    pieces: Target
    cut: Cover
    joined: Joined
    out: Target

    def identity(self) -> dict[str, Any]:
        return {"out": self.out.volume.path, "time": self.out.time, "objects": self.joined.objects}

    def read(self, block: Block) -> NDArray[Any]:
        return self.pieces.read(block.write)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[Any]:
        return objects_of(data, block.write, self.cut, self.joined).astype(self.out.volume.dtype, copy=False)

    def write(self, block: Block, result: NDArray[Any]) -> None:
        self.out.write(block.write, result)


def objects_of(pieces: NDArray[Any], box: Box, cut: Cover, joined: Joined) -> NDArray[np.int32]:
    """The objects of the stored ``pieces`` of ``box``, which may span several of the blocks that they were made in."""
    result = np.zeros(pieces.shape, np.int32)
    for index in _touching(cut, box):
        here = cut[index].write.intersect(box).slices(box.start)
        result[here] = joined.table(index)[pieces[here]]
    return result


def _touching(cut: Cover, box: Box) -> list[int]:
    """The blocks of ``cut`` that hold a voxel of ``box``."""
    cells = [
        range((a - o) // n, (b - 1 - o) // n + 1)
        for a, b, o, n in zip(box.start, box.stop, cut.anchor, cut.size, strict=True)
    ]
    grid = np.stack(np.meshgrid(*cells, indexing="ij")).reshape(box.ndim, -1)
    return [int(i) for i in np.ravel_multi_index(tuple(grid), cut.counts)]
