"""The jobs that make fields of links: voting section after section, and relaxing a window of sections at once.

Both work on tiles of the fields' grid and leave tiles, which ``Blend`` makes one field of, as the tiles of a net are. Fields are those of
chains: a chain's first section lies where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from lamella.blockwise import Block
from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.ops.field import rescale, warp
from lamella.ops.masks import dilate
from lamella.ops.torn import narrow
from lamella.tasks.align.estimate import INSIDE
from lamella.tasks.align.pairs import Found, Frames, Maps, Pair
from lamella.tasks.align.relax import Links, Relaxation
from lamella.tasks.align.resample import MARGIN, read_plane
from lamella.tasks.align.stages import Chain, Field, Plane, Stored, look_up, write_image
from lamella.tasks.align.vote import filled, vote

_SURE = 0.005  # weight above which a match is taken as it is; below it is filled from around
_LOOSE = 3e-4  # weight that ties neighbours where no match is sure, so that what is missing follows them
_SLACK = 8  # coarse pixels by which relaxing may move a section and still see the links that it looks at


@dataclass(frozen=True)
class Chained:
    """Fields of the sections of chains; zero for a chain's first."""

    fields: Stored

    def read(self, chain: Chain, z: int, box: Box) -> Field:
        return np.zeros((2, *box.shape), np.float32) if z == chain.start else self.fields.read(z, box)


@dataclass(frozen=True)
class VoteTile:
    """Writes a tile of the field that the links of a section vote for; what none is sure of is filled from around, and follows the
    section before where nothing is around. Blocks are item times tiles, plus tile."""

    frames: Frames
    found: Found
    fields: Stored
    scratch: Volume
    plane: Plane
    items: tuple[tuple[Chain, int], ...]
    neighbours: int
    width: float

    def identity(self) -> Mapping[str, Any]:
        return {"items": [[c.start, z] for c, z in self.items]}

    def read(self, block: Block) -> list[tuple[Field, Field, Maps]]:
        """For each section before: its field, and the link to it where that field looks."""
        item, tile = divmod(block.write.start[0], len(self.plane.tiling))
        (chain, z), box = self.items[item], self.plane.tiling.tile(tile)
        return [self._candidate(Pair(chain, z, t), box) for t in chain.before(z, self.neighbours)]

    def compute(self, block: Block, data: list[tuple[Field, Field, Maps]]) -> Field:
        before = torch.from_numpy(data[0][0])
        fields, weights = [], []
        for base, where, maps in data:
            seen = torch.from_numpy(where)[None]
            fields.append(torch.from_numpy(base)[None] + warp(torch.from_numpy(maps[None, :2]), seen, padding="border"))
            weights.append(warp(torch.from_numpy(maps[None, 2:]), seen))
        mass = torch.cat(weights)
        step = vote(torch.cat(fields), mass, self.width / self.plane.step) - before
        sure = (mass.amax(0) / _SURE).clamp(0, 1)
        result: Field = (before + filled(step[None], sure[None])[0]).numpy()
        return result

    def write(self, block: Block, result: Field) -> None:
        _write_tile(self.scratch, block.write.start[0], result)

    def _candidate(self, pair: Pair, box: Box) -> tuple[Field, Field, Maps]:
        base = Chained(self.fields).read(pair.chain, pair.target, box)
        where = base - self.frames.field(pair.chain, pair.target, box)
        seen = _seen(box, where, 1)
        corner = np.subtract(seen.start, box.start).astype(np.float32)
        return base, where - corner[:, None, None], self.found.read(pair, seen)


class Window(NamedTuple):
    """Sections ``first`` to ``last`` of a chain that are relaxed at once; those before have their fields. ``solved`` is the last
    section that an earlier window has relaxed, the chain's first if none."""

    chain: Chain
    first: int
    last: int
    solved: int


@dataclass(frozen=True)
class RelaxTile:
    """Writes a tile of the relaxed fields of all sections of a window; blocks are item times tiles, plus tile.

    The tile of the window's n-th section goes to place (item · ``room`` + n) · tiles + tile of the scratch volume.
    """

    frames: Frames
    found: Found
    voted: Stored
    solved: Stored
    scratch: Volume
    plane: Plane
    items: tuple[Window, ...]
    neighbours: int
    room: int
    relaxation: Relaxation
    hold_last: bool = False
    torn: int | None = None

    def identity(self) -> Mapping[str, Any]:
        items = [[w.chain.start, w.first, w.last, w.solved] for w in self.items]
        return {"items": items, "relaxation": repr(self.relaxation), "hold_last": self.hold_last, "torn": self.torn}

    def read(self, block: Block) -> tuple[NDArray[np.float32], NDArray[np.float32], Links, torch.Tensor]:
        """The fields from which relaxing begins, the reference fields, the links between them, and what is not torn."""
        window, tile = self._place(block)
        start = np.stack([self._start(window, z, tile) for z in self._sections(window)])
        reference = np.stack([self.frames.field(window.chain, z, tile) for z in self._sections(window)])
        whole = torch.stack(
            [self._whole(window.chain, z, tile, f) for z, f in zip(self._sections(window), start, strict=True)]
        )
        return start, reference, self._links(window, tile, start - reference), whole

    def compute(
        self, block: Block, data: tuple[NDArray[np.float32], NDArray[np.float32], Links, torch.Tensor]
    ) -> NDArray[np.float32]:
        window, _ = self._place(block)
        start, reference, links, whole = data
        sections = self._sections(window)
        fixed = [i for i, z in enumerate(sections) if z < window.first]
        if self.hold_last:
            fixed += [i for i, z in enumerate(sections) if z == window.chain.stop]
        found = self.relaxation(torch.from_numpy(start), links, torch.from_numpy(reference), fixed, whole)
        result: NDArray[np.float32] = found[len(sections) - (window.last - window.first + 1) :].numpy()
        return result

    def write(self, block: Block, result: NDArray[np.float32]) -> None:
        item, tile = divmod(block.write.start[0], len(self.plane.tiling))
        for n, field in enumerate(result):
            _write_tile(self.scratch, (item * self.room + n) * len(self.plane.tiling) + tile, field)

    def _place(self, block: Block) -> tuple[Window, Box]:
        item, tile = divmod(block.write.start[0], len(self.plane.tiling))
        return self.items[item], self.plane.tiling.tile(tile)

    def _sections(self, window: Window) -> list[int]:
        """Those of the window, after those before that it is linked with."""
        return [*reversed(window.chain.before(window.first, self.neighbours)), *range(window.first, window.last + 1)]

    def _start(self, window: Window, z: int, tile: Box) -> Field:
        """What earlier windows found; behind them what was voted, moved as the last section they relaxed was moved from there."""
        chain, voted, solved = window.chain, Chained(self.voted), Chained(self.solved)
        if z <= window.solved:
            return solved.read(chain, z, tile)
        moved = solved.read(chain, window.solved, tile) - voted.read(chain, window.solved, tile)
        field = voted.read(chain, z, tile) + moved
        if self.hold_last:  # the last section's error is shared out evenly
            field -= np.float32((z - chain.start) / (chain.stop - chain.start)) * voted.read(chain, chain.stop, tile)
        return field

    def _links(self, window: Window, tile: Box, where: NDArray[np.float32]) -> Links:
        """All links within the window and to the sections before, each where its target looks."""
        sections = self._sections(window)
        at = {z: i for i, z in enumerate(sections)}
        pairs = [
            Pair(window.chain, z, t)
            for z in range(window.first, window.last + 1)
            for t in window.chain.before(z, self.neighbours)
        ]
        unit = 2 ** (self.relaxation.levels - 1)
        seen = [_seen(tile, where[at[p.target]], unit, _SLACK) for p in pairs]
        largest = np.max([box.shape for box in seen], 0)
        seen = [Box(b.start, tuple(a + int(n) for a, n in zip(b.start, largest, strict=True))) for b in seen]
        maps = torch.from_numpy(np.stack([self.found.read(p, b) for p, b in zip(pairs, seen, strict=True)]))
        weights = maps[:, 2:]
        steps = filled(maps[:, :2], (weights / _SURE).clamp(0, 1))
        near = torch.tensor([p.source - p.target == 1 for p in pairs]).view(-1, 1, 1, 1)
        return Links(
            [at[p.source] for p in pairs],
            [at[p.target] for p in pairs],
            steps,
            torch.where(near, weights.clamp_min(_LOOSE), weights),
            torch.tensor([[b.start[0] - tile.start[0], b.start[1] - tile.start[1]] for b in seen], dtype=torch.float32),
        )

    def _whole(self, chain: Chain, z: int, tile: Box, start: Field) -> torch.Tensor:
        """(1, y, x): 0 where the section, moved by ``start``, is torn by narrow damage."""
        whole = torch.ones(1, *tile.shape)
        if self.frames.masks is None or self.torn is None:
            return whole
        plane = self.plane.fine(tile).shift(self.plane.box.start)
        field = rescale(torch.from_numpy(start)[None], self.plane.levels, (plane.shape[0], plane.shape[1]))
        offset = field.mean((0, 2, 3)).round()
        field = field - offset.view(1, 2, 1, 1)
        margin = int(field.abs().max().ceil()) + 1
        seen = plane.shift(tuple(int(n) for n in offset)).grow(margin)
        inside = narrow(read_plane(self.frames.masks[0], z, seen) == INSIDE, self.torn)
        torn = warp(torch.from_numpy(inside).to(field)[None, None], field + margin) > 1e-3
        torn = dilate(F.max_pool2d(torn.to(field.dtype), self.plane.step, ceil_mode=True), 1)
        return whole - torn[0]


@dataclass(frozen=True)
class Blend:
    """Writes one block of a section's field from its tiles; ``items`` are (section, place among the tiles)."""

    fields: Stored
    scratch: Volume
    plane: Plane
    items: tuple[tuple[int, int], ...]

    def identity(self) -> Mapping[str, Any]:
        return {"items": [list(item) for item in self.items]}

    def read(self, block: Block) -> Field:
        return self.plane.tiling.blend(_coarse(block), lambda tile: self._tile(block, tile))

    def compute(self, block: Block, data: Field) -> Field:
        return data

    def write(self, block: Block, result: Field) -> None:
        self.fields.write(self.items[block.write.start[0]][0], _coarse(block), result)

    def _tile(self, block: Block, tile: int) -> Field:
        n = self.items[block.write.start[0]][1] * len(self.plane.tiling) + tile
        shape = self.plane.tiling.tile(tile).shape
        return self.scratch.read(Box((n, 0, 0, 0), (n + 1, 2, *shape)))[0]


@dataclass(frozen=True)
class Show:
    """Writes one block of a section seen through its field."""

    source: Volume
    aligned: Volume
    fields: Stored
    plane: Plane
    items: tuple[tuple[Chain, int], ...]
    torn: bool = False

    def identity(self) -> Mapping[str, Any]:
        return {"items": [[c.start, z] for c, z in self.items]}

    def read(self, block: Block) -> tuple[Box, Field]:
        grown = _coarse(block).grow(MARGIN).intersect(Box.of(self.plane.tiling.shape))
        return grown, self.fields.read(self._section(block), grown)

    def compute(self, block: Block, data: tuple[Box, Field]) -> NDArray[Any]:
        return look_up(self.plane, self.source, self._section(block), _coarse(block), data, torn=self.torn)

    def write(self, block: Block, result: NDArray[Any]) -> None:
        write_image(self.plane, self.aligned, self._section(block), _coarse(block), result)

    def _section(self, block: Block) -> int:
        return self.items[block.write.start[0]][1]


def _coarse(block: Block) -> Box:
    """The coarse box of a block whose first axis is the item."""
    return Box(block.write.start[1:], block.write.stop[1:])


def _seen(box: Box, where: Field, unit: int, slack: int = 0) -> Box:
    """Where a ``box`` looks through the field ``where``, and ``slack`` around; beginning and ending whole ``unit`` away from it."""
    low = np.floor((where.min((1, 2)) - slack) / unit).astype(int) * unit
    high = np.ceil((where.max((1, 2)) + 1 + slack) / unit).astype(int) * unit
    start = tuple(a + int(n) for a, n in zip(box.start, low, strict=True))
    return Box(start, tuple(b + int(n) for b, n in zip(box.stop, high, strict=True)))


def _write_tile(scratch: Volume, place: int, field: Field) -> None:
    scratch.write(Box((place, 0, 0, 0), (place + 1, *field.shape)), field[None])
