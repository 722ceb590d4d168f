"""Intensities sampled from frames on a grid of pixels: one row for each frame, NaN where a mask says background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.io.frames import present
from lamella.io.prepared import Prepared
from lamella.io.preprocessing import Preprocessing
from lamella.ops.threshold import smoothed
from lamella.prep.experiment import Experiment, Frame, read_frame
from lamella.prep.rows import Rows, measure_rows
from lamella.prep.stage import Begun

_MOST = 2**22  # values in memory at once; more frames are sampled more coarsely


@dataclass(frozen=True)
class Samples:
    """Every ``spacing``-th pixel along y and x, from half a step in; means of 3 x 3 pixels if ``smooth``."""

    views: Mapping[str, Prepared]
    spacing: int
    width: int
    masks: Preprocessing | None = None
    min_fraction: float = 0.0
    smooth: bool = False

    def __call__(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        rows = np.full((len(frames), self.width), np.nan, np.float32)
        for row, frame in zip(rows, frames, strict=True):
            image = read_frame(self.views, frame)
            values = self._picked(smoothed(image) if self.smooth else image)
            kept = self._foreground(frame)
            row[: values.size] = values if kept is None else np.where(kept, values, np.nan)
        return rows

    def _picked(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        half = self.spacing // 2
        return image[
            min(half, image.shape[0] - 1) :: self.spacing, min(half, image.shape[1] - 1) :: self.spacing
        ].ravel()

    def _foreground(self, frame: Frame) -> NDArray[np.bool_] | None:
        if self.masks is None:
            return None
        mask = read_mask(self.masks.mask(frame.position), frame.time, frame.slice)
        kept = self._picked(mask).astype(bool)
        return kept if mask.mean() >= self.min_fraction else np.zeros_like(kept)


def read_mask(volume: Volume, time: int, z: int) -> NDArray[np.bool_]:
    """The mask (y, x) of a frame; where it has none, as at the other slices of a stack stained at one, that of the nearest slice."""
    start, stop = volume.box.start, volume.box.stop
    slices = np.flatnonzero(present(volume)[time - start[0], 0]) + start[2]
    if not slices.size:
        return np.zeros(volume.box.shape[3:], bool)
    z = int(slices[np.abs(slices - z).argmin()])
    box = Box((time, start[1], z, *start[3:]), (time + 1, start[1] + 1, z + 1, *stop[3:]))
    return volume.read(box)[0, 0, 0] != 0


@dataclass(frozen=True)
class Sampling:
    """Which pixels are sampled: how far apart, within which masks, of frames with how much foreground, smoothed or not."""

    spacing: int
    masks: Preprocessing | None = None
    min_fraction: float = 0.0
    smooth: bool = False


def sample(
    experiment: Experiment, frames: Sequence[Frame], how: Sampling, begun: Begun, label: str, executor: Executor
) -> Rows:
    """Samples of ``frames``; coarser than asked for where they would be too many to hold."""
    shapes = {v.box.shape[3:] for v in experiment.views.values()}
    spacing = max(how.spacing, ceil(sqrt(len(frames) * max(map(prod, shapes)) / _MOST)))
    width = max(prod(len(range(min(spacing // 2, n - 1), n, spacing)) for n in shape) for shape in shapes)
    measure = Samples(experiment.views, spacing, width, how.masks, how.min_fraction, how.smooth)
    return measure_rows(frames, measure, width, begun=begun.part, label=label, executor=executor)
