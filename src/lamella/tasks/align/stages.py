"""The jobs of aligning a volume, block by block.

Each section is done in two stages, and a stage begins when the one before it is done for every block of the volume:

    estimate   every tile: the field from the section to its aligned neighbour          -> scratch, one chunk per tile
    render     every block: blend the tiles' fields, look up the section through them   -> aligned volume, fields

Sections ``start`` (exclusive) to ``stop`` (inclusive) of a *chain* follow each other; chains run side by side. The section at
``start`` is a chain's anchor: it stays where it is, and its field is zero. Boxes of sections are counted from the corner of the
output box, ``origin``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.blockwise import Block
from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.ops.field import warp
from lamella.ops.normalise import Normaliser
from lamella.tasks.align.estimate import INSIDE, Estimator, Tears
from lamella.tasks.align.frame import Frame
from lamella.tasks.align.resample import MARGIN, finer_box, interpolate, read_filled, read_plane, resample, sampled
from lamella.tasks.align.tiles import Tiling

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Chain:
    """Sections that are aligned one after the other."""

    start: int
    stop: int

    def before(self, z: int, count: int) -> list[int]:
        """Up to ``count`` sections of the chain before ``z``, the nearest first."""
        return list(range(z - 1, max(self.start, z - count) - 1, -1))


@dataclass(frozen=True)
class Plane:
    """The geometry that all stages share: the output's plane in the source, and how much coarser its fields are."""

    box: Box
    levels: int
    tiling: Tiling

    @property
    def step(self) -> int:
        return 2**self.levels

    def fine(self, coarse: Box) -> Box:
        """Fine pixels of a coarse box, from the plane's corner."""
        return finer_box(coarse, self.levels, self.box.shape)


@dataclass(frozen=True)
class Stored:
    """A volume of fields (c, z, y, x) whose chain anchors are not stored, because their field is zero.

    With a ``frame``, fields lead from the aligned sections to them as that places them, and are stored as they lead on to the source.
    """

    fields: Volume
    frame: Frame | None = None

    def read(self, z: int, coarse: Box) -> Field:
        corner = self.fields.box.start[2:]
        box = coarse.shift(corner)
        stored = self.fields.read(Box((0, z, *box.start), (2, z + 1, *box.stop)))[:, 0]
        return stored if self.frame is None else self.frame.from_source(z, coarse, stored)

    def write(self, z: int, coarse: Box, field: Field) -> None:
        field = field if self.frame is None else self.frame.to_source(z, coarse, field)
        corner = self.fields.box.start[2:]
        box = coarse.shift(corner)
        self.fields.write(Box((0, z, *box.start), (2, z + 1, *box.stop)), field[:, None])


@dataclass(frozen=True)
class Masks:
    """Masks of the sections as they are, and as they were aligned; 2 is inside a defect."""

    source: Volume
    aligned: Volume


@dataclass(frozen=True)
class Looked:
    """What a tile's field is estimated from: raw voxels with the normaliser's context around them, and where they were read."""

    source: NDArray[Any]
    target: NDArray[Any]
    prior: Field


@dataclass(frozen=True)
class Estimate:
    """Writes the field of one tile of one section; blocks are one number each: item of ``items`` times tiles, plus tile.

    Where there are ``masks``, ``source`` and ``aligned`` are 0 inside defects.
    """

    source: Volume
    aligned: Volume
    fields: Stored
    scratch: Volume
    estimator: Estimator
    plane: Plane
    items: tuple[tuple[Chain, int], ...]
    fill: int
    memory: int
    masks: Masks | None = None
    _normalisers: dict[int, Normaliser] = field(default_factory=dict, repr=False, compare=False)

    def identity(self) -> Mapping[str, Any]:
        return {"items": [[c.start, z] for c, z in self.items]}

    def read(self, block: Block) -> Looked:
        """The target, holes filled from earlier sections, and the source where the sections before lead to expect it."""
        chain, z, tile = self._place(block)
        prior = self._prior(chain, z, tile)
        target = self._target(chain, z, tile, self._context)
        return Looked(read_plane(self.source, z, self._moved(tile, prior).grow(self._context)), target, prior)

    def compute(self, block: Block, data: Looked) -> Field:
        chain, z, tile = self._place(block)
        context, plane = self._context, self._moved(tile, data.prior)

        def read(margin: int) -> NDArray[np.float32]:
            raw = read_plane(self.source, z, plane.grow(margin + context)) if margin else data.source
            return _trimmed(self._normaliser(z)(raw), context)

        def read_target(margin: int) -> NDArray[np.float32]:
            raw = self._target(chain, z, tile, margin + context) if margin else data.target
            return _trimmed(self._normaliser(z - 1)(raw), context)

        tears = None if self.masks is None else self._tears(self.masks, chain, z, plane, tile)
        return self.estimator.coarse(read, read_target, tears) + data.prior[:, None, None]

    def write(self, block: Block, result: Field) -> None:
        n = block.write.start[0]
        box = Box((n, 0, 0, 0), (n + 1, 2, *result.shape[1:]))
        self.scratch.write(box, result[None])

    def _target(self, chain: Chain, z: int, tile: Box, margin: int) -> NDArray[Any]:
        """What a tile is aligned to, ``margin`` pixels larger on each side: the section before, holes filled from earlier ones."""
        past = [(self.source if n == chain.start else self.aligned, n) for n in chain.before(z, self.fill)]
        return read_filled(past, self._pixels(tile).grow(margin))

    def _tears(self, masks: Masks, chain: Chain, z: int, plane: Box, tile: Box) -> Tears:
        """Where the pair is damaged; not where the target's damage was filled from earlier sections."""
        before = masks.source if z - 1 == chain.start else masks.aligned

        def holes(margin: int) -> NDArray[np.bool_]:
            inside = read_plane(before, z - 1, self._pixels(tile).grow(margin)) == INSIDE
            return inside & (self._target(chain, z, tile, margin) == 0)

        return Tears(lambda margin: read_plane(masks.source, z, plane.grow(margin)) == INSIDE, holes)

    def _place(self, block: Block) -> tuple[Chain, int, Box]:
        item, tile = divmod(block.write.start[0], len(self.plane.tiling))
        chain, z = self.items[item]
        return chain, z, self.plane.tiling.tile(tile)

    def _pixels(self, tile: Box) -> Box:
        return self.plane.fine(tile).shift(self.plane.box.start)

    def _moved(self, tile: Box, prior: Field) -> Box:
        """Where the source of a tile is looked for."""
        return self._pixels(tile).shift(tuple(int(n) * self.plane.step for n in prior))

    @property
    def _context(self) -> int:
        """Pixels around a tile that its normalised voxels depend on."""
        return self.estimator.normalise.context(self.source.dtype) or 0

    def _normaliser(self, z: int) -> Normaliser:
        """The normaliser for section ``z``: with its statistics, if it goes by those of whole sections, as in training.

        The target has the statistics of the section before, whether or not its holes were filled from others.
        """
        normalise = self.estimator.normalise
        if normalise.context(self.source.dtype) is not None:
            return normalise
        if z not in self._normalisers:
            self._normalisers[z] = normalise.measured(sampled(self.source, z))
        return self._normalisers[z]

    def _prior(self, chain: Chain, z: int, tile: Box) -> Field:
        """Whole coarse pixels by which the tile's last sections were moved, on the mean: drift goes on as it was."""
        past = [n for n in chain.before(z, self.memory) if n != chain.start]
        if not past:
            return np.zeros(2, np.float32)
        means = [self.fields.read(n, tile).mean((1, 2)) for n in past]
        means += [np.zeros(2, np.float32)] * (len(chain.before(z, self.memory)) - len(past))
        return np.rint(np.mean(means, 0)).astype(np.float32)


@dataclass(frozen=True)
class Render:
    """Blends the tiles of a section and writes one block of its field and of the aligned section."""

    source: Volume
    aligned: Volume
    fields: Stored
    scratch: Volume
    plane: Plane
    items: tuple[tuple[Chain, int], ...]
    torn: bool = False

    def identity(self) -> Mapping[str, Any]:
        return {"items": [[c.start, z] for c, z in self.items]}

    def read(self, block: Block) -> tuple[Box, Field]:
        grown = _coarse(block).grow(MARGIN).intersect(Box.of(self.plane.tiling.shape))
        return grown, self.plane.tiling.blend(grown, lambda tile: self._tile(block, tile))

    def compute(self, block: Block, data: tuple[Box, Field]) -> tuple[Field, NDArray[Any]]:
        grown, coarse = data
        box = _coarse(block)
        z = self.items[block.write.start[0]][1]
        image = look_up(self.plane, self.source, z, box, (grown, coarse), torn=self.torn)
        return coarse[:, *box.slices(grown.start)], image

    def write(self, block: Block, result: tuple[Field, NDArray[Any]]) -> None:
        _, z = self.items[block.write.start[0]]
        coarse, image = result
        self.fields.write(z, _coarse(block), coarse)
        write_image(self.plane, self.aligned, z, _coarse(block), image)

    def _tile(self, block: Block, tile: int) -> Field:
        n = block.write.start[0] * len(self.plane.tiling) + tile
        shape = self.plane.tiling.tile(tile).shape
        return self.scratch.read(Box((n, 0, 0, 0), (n + 1, 2, *shape)))[0]


@dataclass(frozen=True)
class Stitch:
    """Carries a chain's sections into the frame of the volume's first section: its own field, then its anchor's.

    The anchor's field fades with the distance from the anchor, to nothing after ``decay`` sections, so that what chains
    disagree about does not travel through the whole volume.
    """

    source: Volume
    aligned: Volume | None
    chain_fields: Stored
    fields: Stored
    plane: Plane
    items: tuple[tuple[Chain, int], ...]
    first: int
    decay: int | None
    torn: bool = False

    def identity(self) -> Mapping[str, Any]:
        return {"items": [[c.start, z] for c, z in self.items], "decay": self.decay, "images": self.aligned is not None}

    def read(self, block: Block) -> tuple[Box, Field]:
        chain, z = self.items[block.write.start[0]]
        grown = _coarse(block).grow(MARGIN).intersect(Box.of(self.plane.tiling.shape))
        return grown, self._total(chain, z, grown)

    def compute(self, block: Block, data: tuple[Box, Field]) -> tuple[Field, NDArray[Any] | None]:
        grown, coarse = data
        box = _coarse(block)
        z = self.items[block.write.start[0]][1]
        seen = (grown, coarse)
        image = None if self.aligned is None else look_up(self.plane, self.source, z, box, seen, torn=self.torn)
        return coarse[:, *box.slices(grown.start)], image

    def write(self, block: Block, result: tuple[Field, NDArray[Any] | None]) -> None:
        _, z = self.items[block.write.start[0]]
        coarse, image = result
        self.fields.write(z, _coarse(block), coarse)
        if image is not None and self.aligned is not None:
            write_image(self.plane, self.aligned, z, _coarse(block), image)

    def _total(self, chain: Chain, z: int, box: Box) -> Field:
        keep = 1.0 if self.decay is None else max(0.0, 1 - (z - chain.start) / self.decay)
        whole = Box.of(self.plane.tiling.shape)
        if chain.start == self.first or keep == 0:
            return self.chain_fields.read(z, box)
        anchor = self.fields.read(chain.start, box) * np.float32(keep)
        reach = int(np.ceil(np.abs(anchor).max())) + 1
        seen = box.grow(reach).intersect(whole)
        own = torch.from_numpy(self.chain_fields.read(z, seen))[None]
        corner = np.subtract(box.start, seen.start).astype(np.float32)
        where = torch.from_numpy(anchor + corner[:, None, None])[None]
        return anchor + warp(own, where, padding="border")[0].numpy()


@dataclass(frozen=True)
class Copy:
    """Writes a section as it is, with a zero field: the anchor of the volume."""

    source: Volume
    aligned: Volume
    fields: Stored
    plane: Plane
    z: int

    def read(self, block: Block) -> NDArray[Any]:
        return read_plane(self.source, self.z, self.plane.fine(_coarse(block)).shift(self.plane.box.start))

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[Any]:
        return data

    def write(self, block: Block, result: NDArray[Any]) -> None:
        box = _coarse(block)
        self.fields.write(self.z, box, np.zeros((2, *box.shape), np.float32))
        write_image(self.plane, self.aligned, self.z, box, result)


def look_up(plane: Plane, source: Volume, z: int, box: Box, seen: tuple[Box, Field], *, torn: bool) -> NDArray[Any]:
    """The pixels of a coarse ``box`` of section ``z``, through the coarse field of a larger one; ``seen`` are that box and its field."""
    fine = plane.fine(box)
    grown, field = seen
    dense = interpolate(field, grown, fine, (plane.step, plane.step), torn=torn)
    return resample(source, z, fine.shift(plane.box.start), dense)


def write_image(plane: Plane, aligned: Volume, z: int, coarse: Box, image: NDArray[Any]) -> None:
    """Write the pixels of a coarse box."""
    box = plane.fine(coarse).shift(plane.box.start)
    aligned.write(Box((z, *box.start), (z + 1, *box.stop)), image[None])


def _trimmed(image: NDArray[np.float32], margin: int) -> NDArray[np.float32]:
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def _coarse(block: Block) -> Box:
    """The coarse box of a block whose first axis is the item."""
    return Box(block.write.start[1:], block.write.stop[1:])
