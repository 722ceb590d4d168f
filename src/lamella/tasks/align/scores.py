"""Scores of an aligned volume, section by section, in bounded memory.

Each section is one block: its correlation with the section before it, before and after alignment and against an unrelated
section, the error of its field against the truth, and where the field folds. Sections are read in tiles. What a block finds is a
``SectionScores`` in a file of its own, so that a killed evaluation goes on where it stopped.

Sections are (y, x) in volumes (z, y, x), where 0 is missing data; for fields see ``FieldStack``.
Places are global coordinates (z, y, x) of the aligned volume. In a field that is the truth, NaN says that the place has no
counterpart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.core.volume import Volume
from lamella.ops.correlation import chunked_pearson
from lamella.ops.tally import CORRELATION_BINS, PIXEL_BINS, Tally
from lamella.tasks.align.applied import may_jump
from lamella.tasks.align.frame import without_tilt
from lamella.tasks.align.resample import MARGIN, interpolate

_TILE = 1024
_LOOK_BACK = 4  # sections; further back there is little left to correlate with
_WORST = 16  # places kept per section


@dataclass(frozen=True)
class FieldStack:
    """A volume of fields (c, z, y, x), (dy, dx) in its own pixels, which may be 2^levels times as large as the images'.

    Coarse pixel n from the volume's corner covers the image's pixels from ``origin + n * 2^levels`` on, where ``origin`` (y, x)
    is the corner of the aligned volume. A field of the images' own mip has their coordinates. Where masks were known the field may
    be ``torn``; where sections were ``placed`` by a coarse alignment it may turn them by any angle.
    """

    volume: Volume
    levels: int
    origin: tuple[int, int]
    torn: bool = False
    placed: bool = False

    @classmethod
    def of(cls, volume: Volume, aligned: Volume) -> FieldStack:
        """The fields in ``volume`` of the sections in ``aligned``; the sizes of their voxels tell the levels."""
        ratio = volume.meta.voxel_size[-1] / aligned.meta.voxel_size[-1]
        levels = round(float(np.log2(ratio)))
        start = aligned.box.start
        told = volume.meta.provenance
        stack = cls(volume, levels, (start[1], start[2]), may_jump(told), bool(told.get("coarse")))
        if levels < 0 or not np.isclose(ratio, 2**levels) or not stack._covers(aligned.box):
            raise UserError(
                f"fields {volume.path} have box {volume.box} and voxels {ratio:g} times those of {aligned.path}; they need two "
                f"channels (dy, dx) over {aligned.box}, at its mip or a coarser one; give the fields of this volume"
            )
        return stack

    def read(self, z: int, box: Box) -> NDArray[np.float64]:
        """The field (2, y, x) of ``box`` (y, x) of section ``z``, in pixels of the images."""
        if self.levels == 0:
            return self._read(z, box).astype(np.float64)
        fine = box.shift((-self.origin[0], -self.origin[1]))
        whole = Box.of(self.volume.box.shape[2:])
        grown = fine.scale((2**self.levels,) * 2).grow(MARGIN).intersect(whole)
        coarse = self._read(z, grown.shift(self.volume.box.start[2:])).astype(np.float32)
        step = 2**self.levels
        if not self.placed:
            return interpolate(coarse, grown, fine, (step, step), torn=self.torn).astype(np.float64)
        rest, tilt = without_tilt(coarse)
        places = (np.indices(fine.shape) + np.array(fine.start)[:, None, None] - (step - 1) / 2) / step
        places -= np.array(grown.start)[:, None, None]
        turned = np.einsum("ij,jyx->iyx", tilt[:, :2], places) + tilt[:, 2][:, None, None]
        return interpolate(rest, grown, fine, (step, step), torn=self.torn) + step * turned

    def _read(self, z: int, box: Box) -> NDArray[Any]:
        c = self.volume.box.start[0]
        return self.volume.read(Box((c, z, *box.start), (c + 2, z + 1, *box.stop)))[:, 0]

    def _covers(self, aligned: Box) -> bool:
        have = self.volume.box
        if self.levels:
            plane = Box.of(aligned.shape[1:]).scale((2**self.levels,) * 2).shift(have.start[2:])
        else:
            plane = Box(aligned.start[1:], aligned.stop[1:])
        wanted = Box((have.start[0], aligned.start[0], *plane.start), (have.start[0] + 2, aligned.stop[0], *plane.stop))
        return have.shape[0] == 2 and wanted.within(have)


@dataclass(frozen=True)
class SectionScores:
    """What one section scored.

    ``z`` and the section before it that holds data (none for the first); tallies by name: ``after 32``, ``before 32``, ``null 32``
    (correlations by chunk), ``endpoint``, ``endpoint before``, ``step`` (errors in px). ``worst`` and ``worst endpoint`` are (place, 4)
    arrays of y, x, score and the score before. ``folded`` and ``moved`` count pixels; ``missing`` is a share.
    """

    z: int
    previous: int | None
    tallies: dict[str, Tally]
    worst: dict[str, NDArray[np.float64]]
    folded: int
    moved: int
    missing: float

    def save(self, path: Path) -> None:
        previous = np.nan if self.previous is None else self.previous
        numbers = np.array([self.z, previous, self.folded, self.moved, self.missing], np.float64)
        arrays = {f"tally {k}": t.pack() for k, t in self.tallies.items()} | self.worst
        with replacing(path) as beside:
            np.savez_compressed(beside, allow_pickle=False, numbers=numbers, **arrays)

    @classmethod
    def load(cls, path: Path) -> SectionScores:
        with np.load(path) as file:
            z, previous, folded, moved, missing = file["numbers"]
            names = [n.removeprefix("tally ") for n in file.files if n.startswith("tally ")]
            tallies = {n: Tally.unpack(file[f"tally {n}"], bins_of(n)) for n in names}
            worst = {n: file[n] for n in file.files if n.startswith("worst")}
        return cls(
            int(z),
            None if np.isnan(previous) else int(previous),
            tallies,
            worst,
            int(folded),
            int(moved),
            float(missing),
        )


def bins_of(name: str) -> NDArray[np.float64]:
    """The bins of a tally, by its name."""
    return PIXEL_BINS if name.startswith(("endpoint", "step")) else CORRELATION_BINS


@dataclass(frozen=True)
class ScoreSections:
    """The job: score one section per block and leave the result in ``parts``."""

    aligned: Volume
    source: Volume | None
    fields: FieldStack | None
    truth: FieldStack | None
    chunks: tuple[int, ...]
    border: int
    parts: Path

    def read(self, block: Block) -> None:
        """Nothing: a section may be larger than memory, so ``compute`` reads it in tiles."""

    def compute(self, block: Block, data: None) -> SectionScores:
        z = block.write.start[0]
        previous, unrelated = self.partner(z), self.stranger(z)
        tallies: dict[str, Tally] = {}
        worst: dict[str, NDArray[np.float64]] = {}
        for chunk in self.chunks:
            notable = chunk == self.chunks[-1]
            found = self._correlate(z, previous, unrelated, chunk, notable)
            tallies |= {f"{name} {chunk}": tally for name, tally in found[0].items()}
            worst |= {"worst": found[1]} if notable else {}
        folded = moved = 0
        if self.fields is not None:
            errors, worst["worst endpoint"], folded, moved = self._field_scores(z, previous)
            tallies |= errors
        return SectionScores(z, previous, tallies, worst, folded, moved, self._missing(z))

    def write(self, block: Block, result: SectionScores) -> None:
        result.save(part(self.parts, block.index))

    def partner(self, z: int) -> int | None:
        """The nearest section before ``z`` that holds data; lost sections are passed over."""
        first = max(self.aligned.box.start[0], z - _LOOK_BACK)
        return next((p for p in range(z - 1, first - 1, -1) if self._holds_data(p)), None)

    def stranger(self, z: int) -> int | None:
        """A section far from ``z`` that holds data: half the stack away; None in stacks of fewer than four."""
        first, n = self.aligned.box.start[0], self.aligned.box.shape[0]
        away = [first + (z - first + n // 2 + step) % n for step in (0, 1, -1)] if n >= 4 else []
        return next((u for u in away if abs(u - z) > 1 and self._holds_data(u)), None)

    def _holds_data(self, z: int) -> bool:
        return any(tile_of(self.aligned, z, box).any() for box in tiles(self._section))

    def _missing(self, z: int) -> float:
        present = sum(np.count_nonzero(tile_of(self.aligned, z, box)) for box in tiles(self._section))
        return 1 - present / self._section.size

    @property
    def _section(self) -> Box:
        """The aligned section's box (y, x) without the border."""
        box = self.aligned.box
        return Box(box.start[1:], box.stop[1:]).grow(-self.border)

    def _correlate(
        self, z: int, previous: int | None, unrelated: int | None, chunk: int, notable: bool
    ) -> tuple[dict[str, Tally], NDArray[np.float64]]:
        names = ["after"] + ["before"] * (self.source is not None) + ["null"] * (unrelated is not None)
        sums = {name: Tally.empty(CORRELATION_BINS) for name in names}
        places: list[NDArray[np.float64]] = []
        for box in tiles(self._section, chunk):
            here = tile_of(self.aligned, z, box)
            if unrelated is not None:
                sums["null"] += _tally(_pearson(here, self._turned(unrelated, box), chunk))
            if previous is None:
                continue
            after = _pearson(here, tile_of(self.aligned, previous, box), chunk)
            sums["after"] += _tally(after)
            before = np.full(after.shape, np.nan)
            if self.source is not None:
                before = _pearson(tile_of(self.source, z, box), tile_of(self.source, previous, box), chunk)
                sums["before"] += _tally(before)
            if notable:
                places.append(_lowest(after, before, box, chunk))
        return sums, _keep(places)

    def _turned(self, z: int, box: Box) -> NDArray[Any]:
        """The tile of section ``z`` turned by 180° about the section's centre, so that nothing lies where it was."""
        section = self._section
        mirrored = Box(
            tuple(a + b - n for a, b, n in zip(section.start, section.stop, box.stop, strict=True)),
            tuple(a + b - n for a, b, n in zip(section.start, section.stop, box.start, strict=True)),
        )
        return tile_of(self.aligned, z, mirrored)[::-1, ::-1]

    def _field_scores(self, z: int, previous: int | None) -> tuple[dict[str, Tally], NDArray[np.float64], int, int]:
        assert self.fields is not None
        names = ("endpoint", "endpoint before", "step") if self.truth is not None else ()
        sums = {name: Tally.empty(PIXEL_BINS) for name in names}
        places: list[NDArray[np.float64]] = []
        folded = moved = 0
        chunk = self.chunks[-1]
        for box in tiles(self._section, chunk):
            near = box.grow(1).intersect(self._section)
            field = self.fields.read(z, near)
            folds = folds_of(field)[box.slices(near.start)]
            folded, moved = folded + int(folds.sum()), moved + folds.size
            if self.truth is None:
                continue
            error, length = self._error(z, box)
            sums["endpoint"] += Tally.of(np.hypot(*error), PIXEL_BINS)
            sums["endpoint before"] += Tally.of(length, PIXEL_BINS)
            if previous is not None:
                sums["step"] += Tally.of(np.hypot(*(error - self._error(previous, box)[0])), PIXEL_BINS)
            blocks = [_block_mean(v, chunk) for v in (np.hypot(*error), length)]
            places.append(_lowest(-blocks[0], -blocks[1], box, chunk))
        kept = _keep(places)
        kept[:, 2:] *= -1
        return sums, kept, folded, moved

    def _error(self, z: int, box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Field minus truth (2, y, x), and the length of the truth; NaN where there is no counterpart."""
        assert self.fields is not None
        assert self.truth is not None
        truth = self.truth.read(z, box)
        return self.fields.read(z, box) - truth, np.hypot(*truth)


def part(parts: Path, index: int) -> Path:
    """Where the scores of block ``index`` are kept until all are there."""
    return parts / f"{index:06d}.npz"


def tiles(section: Box, chunk: int = 1) -> Iterator[Box]:
    """Tiles of about 1024 px, whole chunks each, so that the chunks of the tiles are those of the section."""
    size = max(_TILE // chunk, 1) * chunk
    for y in range(section.start[0], section.stop[0], size):
        for x in range(section.start[1], section.stop[1], size):
            yield Box((y, x), (y + size, x + size)).intersect(section)


def tile_of(volume: Volume, z: int, box: Box) -> NDArray[Any]:
    """``box`` (y, x) of section ``z``; what lies outside the volume is missing."""
    wanted = Box((z, *box.start), (z + 1, *box.stop))
    inside = wanted.intersect(volume.box)
    out = np.zeros(box.shape, volume.dtype)
    if not inside.is_empty:
        out[inside.slices(wanted.start)[1:]] = volume.read(inside)[0]
    return out


def folds_of(field: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a field (2, y, x) turns tissue over: the Jacobian determinant of x + field(x) is not positive."""
    if min(field.shape[1:]) < 2:
        return np.zeros(field.shape[1:], bool)
    (yy, yx), (xy, xx) = (np.gradient(c) for c in field)
    return (1 + yy) * (1 + xx) - yx * xy <= 0


def _pearson(a: NDArray[Any], b: NDArray[Any], chunk: int) -> NDArray[np.float64]:
    return chunked_pearson(a, b, chunk, (a != 0) & (b != 0))


def _tally(values: NDArray[np.float64]) -> Tally:
    return Tally.of(values, CORRELATION_BINS)


def _block_mean(values: NDArray[np.float64], chunk: int) -> NDArray[np.float64]:
    """Mean of each whole chunk over the values that are known; NaN where half or more are not."""
    h, w = (n // chunk for n in values.shape)
    cut = values[: h * chunk, : w * chunk].reshape(h, chunk, w, chunk)
    known = np.isfinite(cut)
    count = known.sum(axis=(1, 3))
    total = np.where(known, cut, 0).sum(axis=(1, 3))
    return np.where(count > chunk * chunk / 2, total / np.maximum(count, 1), np.nan)


def _lowest(score: NDArray[np.float64], before: NDArray[np.float64], box: Box, chunk: int) -> NDArray[np.float64]:
    """The chunks of a tile with the lowest scores: rows of y, x (centre, global), score, score before."""
    row, column = np.nonzero(np.isfinite(score))
    centre = [s + (k + 0.5) * chunk for s, k in zip(box.start, (row, column), strict=True)]
    found = np.column_stack([*centre, score[row, column], before[row, column]])
    return found[np.argsort(found[:, 2], kind="stable")[:_WORST]]


def _keep(places: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The lowest of all tiles' lowest."""
    found = np.concatenate([np.zeros((0, 4)), *places])
    return found[np.argsort(found[:, 2], kind="stable")[:_WORST]]
