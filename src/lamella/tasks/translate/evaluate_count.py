"""Sums over all that is compared, block by block, so that memory follows a block and a killed evaluation goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Block, Executor, cover, run
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.io.statistics import LIMIT, sample_voxels
from lamella.ops.image_metrics import PLANE_AXIS, Orientation
from lamella.ops.image_scores import Comparison, Sums, margin_of, sums_of
from lamella.ops.image_ssim import MS_STEP, Patch
from lamella.tasks.translate.evaluate_layers import Layer, Subject

_BLOCK = {True: (32, 256, 256), False: (1, 1024, 1024)}  # voxels that are compared at once, in stacks and in planes


@dataclass(frozen=True)
class Scale:
    """How intensities of a channel are seen: ``low`` and ``high`` become 0 and 1, and what lies beyond is cut; None: as they are."""

    low: float | None = None
    high: float | None = None

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        exact = values.astype(np.float64)
        if self.low is None or self.high is None:
            return exact
        return np.clip((exact - self.low) / (self.high - self.low), 0, 1)


@dataclass(frozen=True)
class Tile:
    """A block of a run of slices of one subject; boxes count from the subject's first voxel."""

    subject: int
    run: Box
    write: Box
    read: Box


@dataclass(frozen=True)
class SumTiles:
    """The job: one block is one tile."""

    subjects: tuple[Subject, ...]
    tiles: tuple[Tile, ...]
    orientations: tuple[Orientation, ...]
    how: dict[str, Comparison]
    scales: dict[str, Scale]
    parts: Path

    def read(self, block: Block) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        tile = self.tiles[block.index]
        subject = self.subjects[tile.subject]
        mask = None if subject.mask is None else subject.mask.read(tile.read)
        return read_known(subject.predicted, tile.read), read_known(subject.true, tile.read), mask

    def compute(
        self, block: Block, data: tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]
    ) -> dict[str, NDArray[np.float64]]:
        tile = self.tiles[block.index]
        channel = self.subjects[tile.subject].channel
        predicted, true = (self.scales[channel](a) for a in data[:2])
        patch = Patch(predicted, true, tile.read, tile.write, tile.run)
        found: dict[str, NDArray[np.float64]] = {}
        for orientation in self.orientations:
            found[orientation] = sums_of(patch, orientation, self.how[channel]).values
            if data[2] is not None:
                found[f"{orientation}_masked"] = sums_of(patch, orientation, self.how[channel], data[2] != 0).values
        return found

    def write(self, block: Block, result: dict[str, NDArray[np.float64]]) -> None:
        with replacing(self._file(block.index)) as beside:
            np.savez_compressed(beside, allow_pickle=False, **result)

    def _file(self, index: int) -> Path:
        return self.parts / f"{index:06d}.npz"

    def total(self, subject: int, orientation: Orientation, masked: bool) -> Sums:
        """The sums of all tiles of a subject, plane by plane."""
        axis = PLANE_AXIS[orientation]
        total = Sums.zeros(1 if axis is None else self.subjects[subject].shape[axis])
        for index, tile in enumerate(self.tiles):
            if tile.subject == subject:
                with np.load(self._file(index)) as stored:
                    part = Sums(stored[f"{orientation}_masked" if masked else orientation])
                total = total.added(0 if axis is None else tile.write.start[axis], part)
        return total


def count(
    subjects: Sequence[Subject],
    parts: Path,
    orientations: Sequence[Orientation],
    how: Comparison,
    scales: dict[str, Scale],
    *,
    executor: Executor | None = None,
) -> SumTiles:
    """Do all sums; they are kept in ``parts`` until its owner removes them. ``scales`` are those of each channel."""
    parts.mkdir(parents=True, exist_ok=True)
    ranges = dict.fromkeys(scales, how.data_range)
    if np.isnan(how.data_range):
        ranges = _ranges(subjects, parts, executor)
    each = {channel: Comparison(how.metrics, how.window, ranges[channel], how.threshold) for channel in scales}
    tiles = tuple(_tiles(subjects, orientations, how))
    job = SumTiles(tuple(subjects), tiles, tuple(orientations), each, scales, parts)
    blocks = cover(Box.of((len(tiles),)), 1)
    run(job, blocks, label="comparing", ledger=parts / "sums.ledger", executor=executor)
    return job


def _tiles(subjects: Sequence[Subject], orientations: Sequence[Orientation], how: Comparison) -> Iterator[Tile]:
    deep = any(o != "xy" for o in orientations)
    for k, subject in enumerate(subjects):
        for box in subject.runs:
            margin = margin_of(orientations, how, box.shape)
            for block in cover(box, _BLOCK[deep], margin, bounds=box, align=(MS_STEP if deep else 1, MS_STEP, MS_STEP)):
                yield Tile(k, box, block.write, block.read)


def read_known(layer: Layer, box: Box) -> NDArray[Any]:
    """The voxels of a box; a UserError that tells where one is no number."""
    values = layer.read(box)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        z, y, x = (int(n) for n in np.argwhere(~np.isfinite(values))[0] + np.array(box.start))
        raise UserError(
            f"{layer.where} holds NaN or infinity at slice {layer.start[0] + z}, y {y}, x {x}; replace it by a number, or leave the "
            "position out with --positions"
        )
    return values


@dataclass(frozen=True)
class MeasureTiles:
    """The job that finds the least and the greatest true value of each block."""

    subjects: tuple[Subject, ...]
    tiles: tuple[Tile, ...]
    parts: Path

    def read(self, block: Block) -> NDArray[Any]:
        tile = self.tiles[block.index]
        return read_known(self.subjects[tile.subject].true, tile.write)

    def compute(self, block: Block, data: NDArray[Any]) -> NDArray[np.float64]:
        return np.array([data.min(), data.max()], np.float64)

    def write(self, block: Block, result: NDArray[np.float64]) -> None:
        with replacing(self._file(block.index)) as beside:
            np.save(beside, result)

    def _file(self, index: int) -> Path:
        return self.parts / f"range{index:06d}.npy"

    def ends(self, channel: str) -> tuple[float, float]:
        """The least and the greatest value of a channel."""
        own = [k for k, tile in enumerate(self.tiles) if self.subjects[tile.subject].channel == channel]
        found = np.array([np.load(self._file(k)) for k in own])
        return float(found[:, 0].min()), float(found[:, 1].max())


def _ranges(subjects: Sequence[Subject], parts: Path, executor: Executor | None) -> dict[str, float]:
    """Of each true channel the greatest value less the least."""
    tiles = tuple(_tiles(subjects, ("xy",), Comparison(metrics=("mae",))))
    job = MeasureTiles(tuple(subjects), tiles, parts)
    run(job, cover(Box.of((len(tiles),)), 1), label="measuring", ledger=parts / "ranges.ledger", executor=executor)
    found = {}
    for channel in dict.fromkeys(subject.channel for subject in subjects):
        low, high = job.ends(channel)
        if not high > low:
            raise _constant(subjects, channel, low)
        found[channel] = high - low
    return found


def percentile_scales(subjects: Sequence[Subject], ends: tuple[float, float]) -> dict[str, Scale]:
    """For each channel the scale by two percentiles of its truth; of very much, of a fair sample."""
    found = {}
    for channel in dict.fromkeys(subject.channel for subject in subjects):
        own = [(s.true, box) for s in subjects if s.channel == channel for box in s.runs]
        sample = partial(sample_voxels, limit=max(LIMIT // len(own), 1 << 16))
        values = np.concatenate([sample(layer.volume, layer.within(box))[0] for layer, box in own]).astype(np.float64)
        low, high = (
            float(v) for v in np.percentile(values[np.isfinite(values)], ends)
        )  # others are refused when compared
        if not high > low:
            raise _constant(subjects, channel, low)
        found[channel] = Scale(low, high)
    return found


def _constant(subjects: Sequence[Subject], channel: str, value: float) -> UserError:
    path = next(s.true for s in subjects if s.channel == channel).volume.path
    return UserError(
        f"the truth of channel {channel or '0'} is {value:g} nearly everywhere (first in {path}): there is nothing to compare with; "
        "leave it out with --channels, or name the --data-range"
    )
