"""Foreground masks of an experiment, a volume for each position, with the share of foreground of each frame and border weights.

A mask has the place (position, time, slice) of the frames it was made of and the grid of the view (shaded, resized); where channels
are combined, it exists where all of them do. Masks of one's own (``settings.masks``) are taken from an experiment with the same
positions: everything but 0 is foreground.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import write_text
from lamella.io import create_volume, open_volume
from lamella.io.frames import FRAMES
from lamella.io.frames_table import listed
from lamella.io.prepared import Prepared
from lamella.io.preprocessing import stored_path
from lamella.io.views import nonzero
from lamella.ops.foreground import border_weights
from lamella.ops.threshold import foreground_mask, threshold
from lamella.prep.archive import origin
from lamella.prep.experiment import Experiment, Frame, read_frame
from lamella.prep.frame_settings import MaskSettings, Selection
from lamella.prep.rows import measure_rows
from lamella.prep.samples import Sampling, sample
from lamella.prep.stage import Begun, begin

FRACTIONS = "foreground.csv"

_SPACING = 4  # px between pixels on which the threshold of a stack or data set is measured

Place = tuple[str, int, int]  # position, time, slice
Levels = dict[tuple[int, str, int], float]  # channel, position, time


@dataclass(frozen=True)
class Masked:
    """Where masks were made, and the share of each that is foreground."""

    fractions: Mapping[Place, float]
    weights: bool

    def to_dict(self) -> dict[str, Any]:
        rows = [[p, t, z, round(f, 6)] for (p, t, z), f in self.fractions.items()]
        return {"weights": self.weights, "fractions": rows}


def make_masks(
    source: str,
    out: str | Path,
    settings: MaskSettings | None = None,
    select: Selection | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Masked | None:
    """Make the masks of ``source`` and keep them in ``out``, with ``foreground.csv``; None if that was done before.

    Raises UserError for channels that positions lack, masks of one's own that do not fit, NaNs, and masks that leave nothing.
    """
    settings, select, executor = settings or MaskSettings(), select or Selection(), executor or Executor()
    with begin("masks", source, out, settings, select, overwrite=overwrite) as begun:
        if begun is None:
            return None
        experiment = Experiment.open(source, select, begun.before)
        own = _own_masks(settings, experiment, begun) if settings.masks else None
        looked_at = own or experiment
        channels = looked_at.channels(settings.channels)
        places = _places(looked_at, channels)
        levels = {} if own else _levels(experiment, channels, settings, begun, executor)
        made = _volumes(experiment, places, settings, channels, begun)
        job = Make(looked_at.views, made, channels, settings, levels, own is not None)
        rows = measure_rows(places, job, 1, begun=begun.part, label="masks", executor=executor)
        found = Masked(dict(zip(places, rows[:][:, 0].astype(float).tolist(), strict=True)), settings.weights)
        if not any(found.fractions.values()):
            names = ", ".join(looked_at.channel_name(c) for c in channels)
            begun.discard()
            raise UserError(
                f"masks of {names} leave nothing: no pixel of {len(places)} frames is foreground; choose another method, scope or "
                "channel, or a smaller radius"
            )
        _write_fractions(begun.folder / FRACTIONS, found)
        begun.finish(found.to_dict())
        return found


def _own_masks(settings: MaskSettings, experiment: Experiment, begun: Begun) -> Experiment:
    """The experiment of masks, seen on the grid of the images."""
    assert settings.masks
    measures = begun.before.model_copy(update={"shading": {}})
    masks = Experiment.open(settings.masks, experiment.select, measures)
    lacking = [p for p in experiment.names if p not in masks.names]
    if lacking:
        raise UserError(
            f"masks {settings.masks} have no positions {listed(lacking)}; add them, or choose other positions"
        )
    for p in experiment.names:
        have, need = masks.views[p].box.shape[3:], experiment.views[p].box.shape[3:]
        if have != need:
            raise UserError(f"masks of {p} are {have} px, the images {need}; give masks of the same size")
    return replace(masks, views={p: measures.view(nonzero(v.source)) for p, v in masks.views.items()})


def _places(experiment: Experiment, channels: Sequence[int]) -> tuple[Place, ...]:
    """Where all of the channels have a frame."""
    found: dict[Place, set[int]] = defaultdict(set)
    for f in experiment.frames(channels):
        found[f.position, f.time, f.slice].add(f.channel)
    places = tuple(p for p, there in found.items() if len(there) == len(set(channels)))
    if not places:
        raise UserError(f"channels {list(channels)} have no slice in common; make masks of one of them")
    return places


def _levels(
    experiment: Experiment, channels: Sequence[int], settings: MaskSettings, begun: Begun, executor: Executor
) -> Levels:
    """Thresholds that several frames share, by channel, position and time; empty where each frame has its own."""
    levels: Levels = {}
    for c in channels if settings.scope != "frame" else ():
        frames = experiment.frames([c])
        how = Sampling(_SPACING, smooth=True)
        rows = sample(experiment, frames, how, begun, f"threshold of {experiment.channel_name(c)}", executor)
        groups: dict[tuple[str, int] | None, list[int]] = defaultdict(list)
        for i, f in enumerate(frames):
            groups[None if settings.scope == "dataset" else (f.position, f.time)].append(i)
        for indices in groups.values():
            values = rows.taken(indices)
            level = threshold(values[np.isfinite(values)], settings.method)
            levels |= {(c, frames[i].position, frames[i].time): level for i in indices}
    return levels


def _volumes(
    experiment: Experiment, places: Sequence[Place], settings: MaskSettings, channels: Sequence[int], begun: Begun
) -> dict[tuple[str, str], str]:
    """Where the volumes to write are, by kind and position; those that an earlier run did not make are made."""
    for kind in ("masks", "weights"):  # what a kill left of a volume that was being created
        for part in list((begun.folder / kind).rglob(".*.zarr")):
            shutil.rmtree(part)
    made = {}
    kinds = {"masks": "uint8", **({"weights": "float32"} if settings.weights else {})}
    for position in experiment.names:
        view = experiment.views[position]
        rows = [[t, 0, z] for p, t, z in places if p == position]
        told = {
            **origin(source=view.path, settings=settings.to_dict()),
            FRAMES: {"columns": ["t", "c", "z"], "rows": rows},
        }
        box = Box((view.box.start[0], 0, *view.box.start[2:]), (view.box.stop[0], 1, *view.box.stop[2:]))
        for kind, dtype in kinds.items():
            path = stored_path(begun.folder, kind, position)
            if not Path(path).exists():
                meta = replace(view.meta, channel_names=(kind,), name=position, provenance=told)
                create_volume(path, box=box, dtype=dtype, meta=meta, chunk=(1, 1, 1, *box.shape[3:]))
            made[kind, position] = path
    return made


@dataclass(frozen=True)
class Make:
    """Makes and writes the masks of places; the rows are their shares of foreground."""

    views: Mapping[str, Prepared]
    made: Mapping[tuple[str, str], str]
    channels: tuple[int, ...]
    settings: MaskSettings
    levels: Levels
    given: bool

    def __call__(self, places: Sequence[Place]) -> NDArray[np.float32]:
        return np.array([[self._make(*place)] for place in places], np.float32)

    def _make(self, position: str, time: int, z: int) -> float:
        masks = [self._of(Frame(position, time, c, z)) for c in self.channels]
        mask = np.logical_and.reduce(masks) if self.settings.combine == "all" else np.logical_or.reduce(masks)
        self._write("masks", position, time, z, mask.astype(np.uint8))
        if self.settings.weights:
            self._write("weights", position, time, z, border_weights(mask, self.settings.w0, self.settings.sigma))
        return float(mask.mean())

    def _of(self, frame: Frame) -> NDArray[np.bool_]:
        image = read_frame(self.views, frame)
        if self.given:
            return image >= 0.5
        level = self.levels.get((frame.channel, frame.position, frame.time))
        return foreground_mask(image, self.settings.method, self.settings.radius, level)

    def _write(self, kind: str, position: str, time: int, z: int, array: NDArray[Any]) -> None:
        volume = open_volume(self.made[kind, position], writable=True)  # kept open, a thousand would fill the memory
        start, stop = volume.box.start[3:], volume.box.stop[3:]
        volume.write(Box((time, 0, z, *start), (time + 1, 1, z + 1, *stop)), array[None, None, None])


def _write_fractions(path: Path, masked: Masked) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("position", "time_idx", "slice_idx", "fg_frac"))
    writer.writerows((p, t, z, f"{f:.6f}") for (p, t, z), f in masked.fractions.items())
    write_text(path, buffer.getvalue())
