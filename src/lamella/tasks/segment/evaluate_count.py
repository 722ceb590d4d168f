"""Counting how true and predicted labels overlap, image by image and, in large ones, block by block.

What a block finds is a tally in a file of its own, so memory follows a block and the objects in it, and a killed evaluation goes on
where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Executor, cover, run
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.ops.instances.components import connected
from lamella.ops.matching import Overlaps, ignoring
from lamella.tasks.segment.evaluate_inputs import Subject

_BLOCK = {2: (2048, 2048), 3: (32, 384, 384)}  # voxels that are compared at once, about 4 million

_MOST = 0.9  # one object may have a few stray voxels; of a mask of many objects no patch is nearly all
_SUSPECTS = 16  # blocks that hold nothing but a mask


@dataclass(frozen=True)
class Tile:
    """A block of one subject: ``subject`` is its place in the list, ``box`` and ``read`` count from the subject's first voxel."""

    subject: int
    box: Box
    read: Box


def tiles_of(subjects: Sequence[Subject], *, whole: bool) -> list[Tile]:
    """All subjects in blocks, with the voxel around them that decides what is ignored; ``whole`` leaves them in one piece."""
    tiles = []
    for k, subject in enumerate(subjects):
        box = subject.box
        size = box.shape if whole else _BLOCK[box.ndim]
        tiles += [Tile(k, block.write, block.read) for block in cover(box, size, 1, bounds=box)]
    return tiles


@dataclass(frozen=True)
class CountOverlaps:
    """The job: one block is one tile. ``components``: the truth is a mask."""

    subjects: tuple[Subject, ...]
    tiles: tuple[Tile, ...]
    ignore: tuple[int, ...]
    components: bool
    parts: Path

    def read(self, block: Block) -> tuple[NDArray[Any], NDArray[Any]]:
        tile = self.tiles[block.index]
        subject = self.subjects[tile.subject]
        return subject.true.read(tile.read), subject.predicted.read(tile.box)

    def compute(self, block: Block, data: tuple[NDArray[Any], NDArray[Any]]) -> dict[str, NDArray[Any]]:
        tile = self.tiles[block.index]
        subject = self.subjects[tile.subject]
        true, predicted = (
            _as_labels(a, layer.volume.path) for a, layer in zip(data, (subject.true, subject.predicted), strict=True)
        )
        if self.components:
            true = _patches(true, self.ignore)
        inside = tile.box.slices(tile.read.start)
        known = ignoring(true, self.ignore)[inside] if self.ignore else true[inside]
        overlaps = Overlaps.of(known, predicted, tile.box, subject.box)
        return overlaps.pack()

    def write(self, block: Block, result: dict[str, NDArray[Any]]) -> None:
        with replacing(self._file(block.index)) as beside:
            np.savez_compressed(beside, allow_pickle=False, **result)

    def _file(self, index: int) -> Path:
        return self.parts / f"{index:06d}.npz"

    def load(self, indices: Sequence[int]) -> Overlaps:
        """The sum of the tallies of some tiles."""
        found = []
        for index in indices:
            with np.load(self._file(index)) as stored:
                found.append(Overlaps.unpack({name: stored[name] for name in stored.files}))
        return Overlaps.total(found)


def count_overlaps(
    subjects: Sequence[Subject],
    parts: Path,
    *,
    ignore: Sequence[int] = (),
    components: bool = False,
    executor: Executor | None = None,
) -> Iterator[Overlaps]:
    """The overlaps of each subject in turn. Tallies are kept in ``parts`` until its owner removes them."""
    tiles = tiles_of(subjects, whole=components)
    job = CountOverlaps(tuple(subjects), tuple(tiles), tuple(ignore), components, parts)
    parts.mkdir(parents=True, exist_ok=True)
    blocks = cover(Box.of((len(tiles),)), 1)
    run(job, blocks, label="counting overlaps", ledger=parts / "ledger", executor=executor)
    own: list[list[int]] = [[] for _ in subjects]
    for index, tile in enumerate(tiles):
        own[tile.subject].append(index)
    yield from (job.load(indices) for indices in own)


def refuse_masks(subjects: Sequence[Subject], ignore: Sequence[int], *, components: bool) -> None:
    """Raise UserError if the labels of a side are a mask: one value in several patches, in every block looked at.

    Usually the first block has two labels and settles it; sixteen that look like a mask do too.
    """
    tiles = tiles_of(subjects, whole=False)
    for side in ("predicted",) if components else ("true", "predicted"):
        suspects: list[tuple[str, int]] = []
        for tile in tiles:
            layer = getattr(subjects[tile.subject], side)
            labels = _as_labels(layer.read(tile.box), layer.volume.path)
            labels = np.where(np.isin(labels, np.asarray(ignore, np.int64)), 0, labels) if side == "true" else labels
            if _has_several(labels):
                suspects = []
                break
            patches = _patches_of_one(labels)
            suspects += [(layer.volume.path, patches)] if patches > 1 else []
            if len(suspects) == _SUSPECTS:
                break
        if suspects:
            raise UserError(_is_mask(side, *max(suspects, key=lambda s: s[1])))


def _is_mask(side: str, path: str, patches: int) -> str:
    hint = "; if its patches are the objects, say so with --components" if side == "true" else ""
    return (
        f"{side} labels {path} hold one value in {patches} separate patches: a mask, not instances; give each object a number of "
        f"its own{hint}"
    )


def _has_several(labels: NDArray[np.int64]) -> bool:
    top = labels.max(initial=0)
    return bool(((labels > 0) & (labels != top)).any())


def _as_labels(array: NDArray[Any], path: str) -> NDArray[np.int64]:
    labels = array.astype(np.int64)
    if labels.size and labels.min() < 0:
        raise UserError(f"{path} holds {labels.min()}; labels are 0 for background and whole numbers above it")
    return labels


def _patches(mask: NDArray[np.int64], ignore: Sequence[int]) -> NDArray[np.int64]:
    """A mask as labels of its connected patches, which avoid the numbers that are ignored."""
    kept = np.isin(mask, np.asarray(ignore, np.int64))
    labels = connected((mask > 0) & ~kept)[0].astype(np.int64)
    return np.where(kept, mask, np.where(labels > 0, labels + max(ignore, default=0), 0))


def _patches_of_one(labels: NDArray[np.int64]) -> int:
    """How many patches the only label has; 0 if there is none, or one patch is nearly all of it."""
    if not labels.any():
        return 0
    patches, count = connected(labels > 0)
    largest = np.bincount(patches.ravel())[1:].max()
    return 0 if largest > _MOST * np.count_nonzero(patches) else count
