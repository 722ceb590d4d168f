"""The links between sections: each section matched with those before it, one by one, and how sure each match is.

Pairs do not wait for each other. They are matched tile by tile as the sections of a chain are, and kept as tiles of three maps: dy and
dx, by how much further the source is displaced than the target (see ``relax``), and the weight of the match. In the first round sections
are matched as they are; from the second on as the round before aligned them, so that what is left to find is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.blockwise import Block
from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.ops.field import compose
from lamella.ops.normalise import Normaliser
from lamella.tasks.align.confidence import confidence, moved
from lamella.tasks.align.estimate import INSIDE, Estimator, Reader, Tears, Wider
from lamella.tasks.align.resample import read_plane, sampled
from lamella.tasks.align.stages import Chain, Field, Plane, Stored

Maps = NDArray[np.float32]  # (dy, dx, weight)


class Pair(NamedTuple):
    """Two sections of a chain; the target lies before the source."""

    chain: Chain
    source: int
    target: int


def pairs_of(chains: tuple[Chain, ...] | list[Chain], neighbours: int) -> tuple[Pair, ...]:
    """All pairs of sections of one chain that lie up to ``neighbours`` apart."""
    return tuple(Pair(c, z, t) for c in chains for z in range(c.start + 1, c.stop + 1) for t in c.before(z, neighbours))


@dataclass(frozen=True)
class Frames:
    """The sections of chains as a round of matching sees them: raw, or aligned by the fields of the round before.

    A chain's first section is always as it is. Volumes are 0 inside defects if there are ``masks``, which are (raw, aligned).
    """

    raw: Volume
    aligned: Volume | None = None
    fields: Stored | None = None
    masks: tuple[Volume, Volume] | None = None

    def shown(self, chain: Chain, z: int) -> Volume:
        return self.raw if self.aligned is None or z == chain.start else self.aligned

    def mask(self, chain: Chain, z: int) -> Volume | None:
        if self.masks is None:
            return None
        return self.masks[0] if self.aligned is None or z == chain.start else self.masks[1]

    def field(self, chain: Chain, z: int, box: Box) -> Field:
        """The field through which the section is seen; zero as it is."""
        if self.fields is None or z == chain.start:
            return np.zeros((2, *box.shape), np.float32)
        return self.fields.read(z, box)


@dataclass(frozen=True)
class MatchPairs:
    """Writes the link of one tile of one pair; blocks are one number each: pair times tiles, plus tile."""

    frames: Frames
    links: Volume
    estimator: Estimator
    plane: Plane
    pairs: tuple[Pair, ...]
    _normalisers: dict[int, Normaliser] = field(default_factory=dict, repr=False, compare=False)

    def identity(self) -> Mapping[str, Any]:
        return {"pairs": [[p.chain.start, p.source, p.target] for p in self.pairs]}

    def read(self, block: Block) -> tuple[NDArray[Any], NDArray[Any]]:
        """Source and target with the normaliser's context around the tile."""
        pair, tile = self._place(block)
        seen = self._pixels(tile).grow(self._context)
        return self._raw(pair, pair.source, seen), self._raw(pair, pair.target, seen)

    def compute(self, block: Block, data: tuple[NDArray[Any], NDArray[Any]]) -> Maps:
        pair, tile = self._place(block)
        context, plane = self._context, self._pixels(tile)

        def reader(z: int, raw: NDArray[Any]) -> Reader:
            def read(margin: int) -> NDArray[np.float32]:
                seen = self._raw(pair, z, plane.grow(margin + context)) if margin else raw
                return _trimmed(self._normaliser(z)(seen), context)

            return Wider(read)

        source, target = reader(pair.source, data[0]), reader(pair.target, data[1])
        found = self.estimator.coarse(source, target, self._tears(pair, plane))
        weight = self._weight(source, target(0), found)
        return np.concatenate([self._step(pair, tile, found), weight[None]])

    def write(self, block: Block, result: Maps) -> None:
        n = block.write.start[0]
        self.links.write(Box((n, 0, 0, 0), (n + 1, *result.shape)), result[None])

    @torch.inference_mode()
    def _weight(self, read: Reader, target: NDArray[np.float32], found: Field) -> NDArray[np.float32]:
        """How sure ``found`` is; 0 where either section is missing."""
        margin = int(np.ceil(np.abs(found).max() * self.plane.step)) + 1
        source = torch.from_numpy(read(margin))[None, None]
        fixed = torch.from_numpy(target)[None, None]
        if not (source.any() and fixed.any()):
            return np.zeros(found.shape[1:], np.float32)
        level, device = self.plane.levels, self.estimator.device
        aligned = moved(
            source.to(device),
            torch.from_numpy(found)[None].to(device),
            level,
            (target.shape[0], target.shape[1]),
            margin,
        )
        sure: NDArray[np.float32] = (
            confidence(self.estimator.net, aligned, fixed.to(device), level)[0, 0].float().cpu().numpy()
        )
        return sure

    def _step(self, pair: Pair, tile: Box, found: Field) -> Field:
        """By how much further the source is displaced than the target: what was found, behind what was there before."""
        if self.frames.fields is None:
            return found
        reach = int(np.ceil(np.abs(found).max())) + 1
        grown = tile.grow(reach).intersect(Box.of(self.plane.tiling.shape))
        before = torch.from_numpy(self.frames.field(pair.chain, pair.source, grown))[None]
        corner = torch.tensor(np.subtract(tile.start, grown.start), dtype=torch.float32).view(1, 2, 1, 1)
        total = compose(before, torch.from_numpy(found)[None] + corner) - corner
        return total[0].numpy() - self.frames.field(pair.chain, pair.target, tile)

    def _tears(self, pair: Pair, plane: Box) -> Tears | None:
        chain, z, t = pair
        source, target = self.frames.mask(chain, z), self.frames.mask(chain, t)
        if source is None or target is None:
            return None
        return Tears(
            lambda margin: read_plane(source, z, plane.grow(margin)) == INSIDE,
            lambda margin: read_plane(target, t, plane.grow(margin)) == INSIDE,
        )

    def _raw(self, pair: Pair, z: int, plane: Box) -> NDArray[Any]:
        return read_plane(self.frames.shown(pair.chain, z), z, plane)

    def _place(self, block: Block) -> tuple[Pair, Box]:
        pair, tile = divmod(block.write.start[0], len(self.plane.tiling))
        return self.pairs[pair], self.plane.tiling.tile(tile)

    def _pixels(self, tile: Box) -> Box:
        return self.plane.fine(tile).shift(self.plane.box.start)

    @property
    def _context(self) -> int:
        """Pixels around a tile that its normalised voxels depend on."""
        return self.estimator.normalise.context(self.frames.raw.dtype) or 0

    def _normaliser(self, z: int) -> Normaliser:
        """The normaliser for section ``z``, with its statistics if it goes by those of whole sections."""
        normalise = self.estimator.normalise
        if normalise.context(self.frames.raw.dtype) is not None:
            return normalise
        if z not in self._normalisers:
            self._normalisers[z] = normalise.measured(sampled(self.frames.raw, z))
        return self._normalisers[z]


@dataclass(frozen=True)
class Found:
    """What ``MatchPairs`` has written, to be read anywhere in the plane. Weights are times ``far`` for each section more between a pair."""

    links: Volume
    plane: Plane
    pairs: tuple[Pair, ...]
    far: float = 1.0

    @cached_property
    def _places(self) -> dict[Pair, int]:
        return {pair: n for n, pair in enumerate(self.pairs)}

    def read(self, pair: Pair, box: Box) -> Maps:
        """The link (3, y, x) of a coarse ``box``; outside the section its edge goes on, with weight 0."""
        whole = Box.of(self.plane.tiling.shape)
        inside = box.intersect(whole)
        if inside.is_empty:
            near = [min(max(a, 0), n - 1) for a, n in zip(box.start, whole.stop, strict=True)]
            inside = Box(tuple(near), tuple(n + 1 for n in near))
        maps = self.plane.tiling.blend(inside, lambda tile: self._tile(pair, tile), channels=3)
        maps[2] *= np.float32(self.far ** (pair.source - pair.target - 1))
        if inside == box:
            return maps
        index = [np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)]
        y, x = (np.clip(i, a, b - 1) - a for i, a, b in zip(index, inside.start, inside.stop, strict=True))
        result = maps[:, y[:, None], x[None]]
        outside = [(i < 0) | (i >= n) for i, n in zip(index, whole.stop, strict=True)]
        result[2, outside[0]] = 0
        result[2, :, outside[1]] = 0
        return result

    def _tile(self, pair: Pair, tile: int) -> Maps:
        n = self._places[pair] * len(self.plane.tiling) + tile
        shape = self.plane.tiling.tile(tile).shape
        return self.links.read(Box((n, 0, 0, 0), (n + 1, 3, *shape)))[0]


def _trimmed(image: NDArray[np.float32], margin: int) -> NDArray[np.float32]:
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]
