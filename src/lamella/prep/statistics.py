"""Centre and spread of intensities, measured on a grid of pixels, for all positions together or for parts of the experiment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Executor
from lamella.core.errors import UserError
from lamella.io.preprocessing import Group, Preprocessing, Statistics
from lamella.prep.experiment import Experiment, Frame
from lamella.prep.frame_settings import Selection, StatisticsSettings
from lamella.prep.rows import Rows
from lamella.prep.samples import Sampling, sample
from lamella.prep.stage import begin


def measure_statistics(
    source: str,
    out: str | Path,
    settings: StatisticsSettings | None = None,
    select: Selection | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Statistics | None:
    """Measure the intensities of ``source`` after the shading and resizing in ``out``, and keep them there; None if done before.

    Raises UserError for channels that positions lack, NaNs, a spread of zero (which frames), masks that are missing or leave
    nothing to measure.
    """
    settings, select = settings or StatisticsSettings(), select or Selection()
    with begin("statistics", source, out, settings, select, overwrite=overwrite) as begun:
        if begun is None:
            return None
        experiment = Experiment.open(source, select, begun.before)
        masks = _masks(begun.before) if settings.foreground else None
        groups: list[Group] = []
        for channel in experiment.channels(settings.channels):
            frames = experiment.frames([channel])
            label = f"intensities of {experiment.channel_name(channel)}"
            how = Sampling(settings.spacing, masks, settings.min_fraction)
            rows = sample(experiment, frames, how, begun, label, executor or Executor())
            groups += _groups(channel, frames, rows, settings)
        found = Statistics(level=settings.level, source=experiment.root, groups=tuple(groups))
        begun.finish(found.to_dict())
        return found


def _masks(measures: Preprocessing) -> Preprocessing:
    if measures.masks is None:
        raise UserError(
            "statistics on foreground need masks, and there are none; make them with 'lamella prep masks' first"
        )
    return measures


def _groups(channel: int, frames: Sequence[Frame], rows: Rows, settings: StatisticsSettings) -> list[Group]:
    """The groups of one channel, and the one for all positions last."""
    members: dict[tuple[str | None, int | None, int | None], list[int]] = defaultdict(list)
    for i, frame in enumerate(frames):
        members[_place(frame, settings.level)].append(i)
    found = []
    for place, indices in members.items():
        values = rows.taken(indices)
        values = values[np.isfinite(values)]
        if not values.size and settings.level != "dataset":
            continue  # a frame without foreground has nothing to normalise by; asking for it later says so
        found.append(_measured(channel, place, values, settings, frames[indices[0]]))
    if not found:
        raise UserError(
            f"channel {channel}: the masks leave no frame with enough foreground to measure; lower min_fraction, or make other masks"
        )
    return found if settings.level == "dataset" else [*found, _typical(channel, found)]


def _place(frame: Frame, level: str) -> tuple[str | None, int | None, int | None]:
    """Position, time and slice that a frame shares with its group."""
    return (
        None if level == "dataset" else frame.position,
        frame.time if level in ("stack", "slice") else None,
        frame.slice if level == "slice" else None,
    )


def _measured(
    channel: int,
    place: tuple[str | None, int | None, int | None],
    values: NDArray[np.float32],
    settings: StatisticsSettings,
    example: Frame,
) -> Group:
    if not values.size:
        raise UserError(
            f"channel {channel}: the masks leave no frame with enough foreground to measure; lower min_fraction, or make other masks"
        )
    exact = values.astype(np.float64)
    low, high = np.percentile(exact, settings.clip) if settings.clip else (None, None)
    if low is not None and high is not None:
        exact = np.clip(exact, low, high)
    if settings.centre == "median":
        lower, centre, upper = np.percentile(exact, (25, 50, 75))
        spread, name = upper - lower, "interquartile range"
    else:
        centre, spread, name = exact.mean(), exact.std(), "standard deviation"
    if spread <= 0:
        other = "; most pixels are equal: take centre mean" if exact.std() > 0 else ""
        raise UserError(
            f"the {name} of {example if place[0] is not None else f'channel {channel}'} is 0 (all values measured are about {centre:.6g}), "
            f"so it cannot be normalised{other}; leave constant frames out, or choose a wider level"
        )
    limits = {"low": None, "high": None} if low is None or high is None else {"low": float(low), "high": float(high)}
    position, time, z = place
    return Group(
        channel=channel, position=position, time=time, slice=z, centre=float(centre), spread=float(spread), **limits
    )


def _typical(channel: int, groups: Sequence[Group]) -> Group:
    """What groups of a channel have in common: by this a prediction is restored whose target nobody measured."""
    limits = {
        n: float(np.median([getattr(g, n) for g in groups])) if groups[0].low is not None else None
        for n in ("low", "high")
    }
    centre, spread = (float(np.median([getattr(g, n) for g in groups])) for n in ("centre", "spread"))
    return Group(channel=channel, centre=centre, spread=spread, **limits)
