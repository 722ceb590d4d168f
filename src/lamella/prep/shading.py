"""The shading of each channel, measured over the positions of an experiment; see ``lamella.ops.shading`` for the two methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Executor
from lamella.core.errors import UserError
from lamella.io.prepared import Prepared
from lamella.ops.shading import Shading, block_medians, check_blocks, low_rank_shading, polynomial_shading
from lamella.prep.experiment import Experiment, Frame, read_frame
from lamella.prep.frame_settings import Selection, ShadingSettings
from lamella.prep.rows import measure_rows
from lamella.prep.stage import Begun, begin

_GROUPS = 16  # partial sums of the mean image; their number bounds what is stored, and what is done again after a kill
_DEFAULTS = {"low-rank": (16, 4), "polynomial": (32, 2)}  # block and order


def measure_shading(
    source: str,
    out: str | Path,
    settings: ShadingSettings | None = None,
    select: Selection | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> dict[int, Shading] | None:
    """Estimate the shading of each channel of ``source`` and keep it in the folder ``out``; None if that was done before.

    Raises UserError for channels that positions lack, frames of different sizes, NaNs, too few frames, and fields that are not
    positive.
    """
    settings, select = settings or ShadingSettings(), select or Selection()
    with begin("shading", source, out, settings, select, overwrite=overwrite) as begun:
        if begun is None:
            return None
        experiment = Experiment.open(source, select)
        channels = experiment.channels(settings.channels)
        chosen = {c: _chosen(experiment.frames([c]), settings) for c in channels}
        check_blocks(experiment.size, *_fit_settings(settings))
        found = {c: _estimate(experiment, c, chosen[c], settings, begun, executor or Executor()) for c in channels}
        begun.finish({str(c): s.to_dict() for c, s in found.items()})
        return found


def _chosen(frames: Sequence[Frame], settings: ShadingSettings) -> tuple[Frame, ...]:
    """The frames to use: one or all of each position, no more than ``most``, evenly spread."""
    if settings.frames == "first":
        frames = list({f.position: f for f in reversed(frames)}.values())[::-1]
    if len(frames) > settings.most:
        frames = [frames[i] for i in np.linspace(0, len(frames) - 1, settings.most).round().astype(int)]
    return tuple(frames)


def _fit_settings(settings: ShadingSettings) -> tuple[int, int]:
    """Block and order, the method's own where none is asked for."""
    block, order = _DEFAULTS[settings.method]
    return settings.block or block, order if settings.order is None else settings.order


def _estimate(
    experiment: Experiment,
    channel: int,
    frames: Sequence[Frame],
    settings: ShadingSettings,
    begun: Begun,
    executor: Executor,
) -> Shading:
    (block, order), shape = _fit_settings(settings), experiment.size
    label, views = f"shading of {experiment.channel_name(channel)}", experiment.views
    if settings.method == "polynomial":
        sums = measure_rows(
            frames, Sum(views), shape[0] * shape[1],
            begun=begun.part, label=label, executor=executor, dtype="float64", groups=_GROUPS,
        )  # fmt: skip
        mean = np.zeros((1, shape[0] * shape[1]))
        for i in range(sums.shape[0]):
            mean += sums[i : i + 1]
        values, fit = mean.reshape(shape) / len(frames), polynomial_shading
    else:
        grid = tuple(-(-n // block) for n in shape)
        measure = Medians(views, block)
        rows = measure_rows(frames, measure, grid[0] * grid[1], begun=begun.part, label=label, executor=executor)
        values, fit = rows[:].reshape(-1, *grid).astype(np.float64), partial(low_rank_shading, shape=shape)
    try:
        return fit(values, block=block, order=order, offset=settings.offset)
    except UserError as error:
        raise UserError(f"channel {channel} ({len(frames)} frames): {error}") from None


@dataclass(frozen=True)
class Sum:
    """The sum of frames, as one row."""

    views: Mapping[str, Prepared]

    def __call__(self, frames: Sequence[Frame]) -> NDArray[np.float64]:
        total = read_frame(self.views, frames[0]).astype(np.float64)
        for frame in frames[1:]:
            total += read_frame(self.views, frame)
        return total.reshape(1, -1)


@dataclass(frozen=True)
class Medians:
    """The block medians of each frame."""

    views: Mapping[str, Prepared]
    block: int

    def __call__(self, frames: Sequence[Frame]) -> NDArray[np.floating]:
        return np.stack([block_medians(read_frame(self.views, f), self.block).ravel() for f in frames])
