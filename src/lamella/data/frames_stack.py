"""Positions opened for training: for each position and time what the net is shown, what it is to give, and where that counts.

```
slices of the input       z-1  z  z+1          a window of ``depth`` slices, odd
slice of the target            z               or all of the window
```

Frames that do not exist are never shown. A slice can be learnt from if all input channels exist in its window and at least one target
exists; targets that do not exist there do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lamella.core.box import Box, parse_box
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.data.frames_image import Finish, FrameImage
from lamella.io.frames import listed_frames, present
from lamella.io.positions import open_positions
from lamella.io.prepared import Prepared
from lamella.io.preprocessing import Preprocessing, channel_numbers
from lamella.io.views import crop

Channel = int | str
Target = Literal["intensity", "binary", "mask"]
Exists = NDArray[np.bool_]


class FramesSource(Config):
    """An experiment: a folder of frames, an OME-Zarr plate, or any volume with channels."""

    path: str = Field(description="folder of frames, plate, or volume")
    positions: tuple[str, ...] | None = Field(None, min_length=1, description="positions to take, by name; or all")
    times: str | None = Field(None, description="times to take, START:STOP")
    z: str | None = Field(None, description="slices to take, START:STOP")
    weight: float = Field(1.0, gt=0, description="how often its crops are drawn, relative to those of other sources")


class Channels(Config):
    """What the net is shown and what it is to give."""

    inputs: tuple[Channel, ...] = Field(min_length=1, description="channels that the net sees, by number or name")
    targets: tuple[Channel, ...] = Field((), description="channels that it is to give, by number or name")
    target: Target = Field(
        "intensity",
        description="intensity: stains; binary: 1 where the target channels are not 0; mask: the preprocessing's foreground",
    )
    ndim: Literal[2, 3] = Field(2, description="2: slices (or windows of slices), 3: volumes")
    depth: int = Field(1, ge=1, description="odd number of slices around the target's that a 2D or 2.5D net sees")
    whole_window: bool = Field(False, description="the targets are all slices of the window, not its middle one")

    @model_validator(mode="after")
    def _check_channels(self) -> Channels:
        if self.depth % 2 == 0:
            raise ValueError(
                f"depth {self.depth} is even, so no slice is in the middle; choose {self.depth - 1} or {self.depth + 1}"
            )
        if self.depth > 1 and self.ndim == 3:
            raise ValueError(
                f"depth {self.depth} is for 2D and 2.5D nets; with ndim 3 the slices are an axis of the crop"
            )
        if self.target == "mask" and self.targets:
            raise ValueError("target 'mask' is the foreground of the preprocessing; leave targets empty with it")
        if self.target != "mask" and not self.targets:
            raise ValueError("targets is empty; name the channels that the net is to give")
        return self

    @property
    def num_targets(self) -> int:
        return max(len(self.targets), 1)

    @property
    def target_depth(self) -> int:
        """Slices of the target in a 2D sample."""
        return self.depth if self.whole_window else 1


@dataclass(eq=False)
class Stack:
    """One position at one time. ``exists`` (t, z) tells where targets exist; ``mask`` is 1 where targets count."""

    name: str
    position: str
    inputs: FrameImage
    targets: FrameImage
    exists: Exists
    numbers: tuple[tuple[int, ...], tuple[int, ...]]
    values: dict[str, tuple[str, ...]]
    weight: float = 1.0
    foreground: FrameImage | None = None
    weights: FrameImage | None = None

    @property
    def planes(self) -> tuple[int, ...]:
        return self.inputs.planes

    def drawn_from(self, planes: tuple[int, ...]) -> None:
        """Draw from these slices only."""
        for image in self.images:
            image.planes = planes

    @property
    def images(self) -> Iterator[FrameImage]:
        """All that is read of it."""
        return (i for i in (self.inputs, self.targets, self.foreground, self.weights) if i is not None)


def open_stacks(
    sources: Sequence[FramesSource], channels: Channels, measures: Preprocessing, finish: Finish
) -> list[Stack]:
    """Every position and time of all ``sources``; ``finish`` is what becomes of the targets.

    Raises UserError for positions and channels that do not exist (which, where), channels whose frames are missing at a position, and
    windows of slices that fit nowhere.
    """
    if len(sources) > 1 and measures.masks is not None:
        raise UserError(
            "masks belong to one experiment, by the names of its positions; give one source, or leave them out"
        )
    stacks: list[Stack] = []
    opener = _Opener(channels, measures, finish)
    for number, source in enumerate(sources):
        for name, volume in _chosen(source).items():
            label = name if len(sources) == 1 else f"{number}:{name}"
            stacks += opener.stacks(volume, name, label, source)
    first = stacks[0]
    for stack in stacks:
        if stack.numbers != first.numbers:
            raise UserError(
                f"channels are numbered otherwise in {stack.inputs.volume.path} {stack.numbers} than in "
                f"{first.inputs.volume.path} {first.numbers}; statistics know channels by number, so renumber them, or train on one"
            )
    return stacks


def _chosen(source: FramesSource) -> dict[str, Volume]:
    there = open_positions(source.path)
    unknown = [p for p in source.positions or () if p not in there]
    if unknown:
        has = ", ".join(p for p in there if p) or "only one, without a name"
        raise UserError(f"positions {', '.join(unknown)} are not in {source.path}, which has {has}; choose of those")
    return {p: v for p, v in there.items() if source.positions is None or p in source.positions}


@dataclass(frozen=True)
class _Opener:
    """Opens positions alike."""

    channels: Channels
    measures: Preprocessing
    finish: Finish

    def stacks(self, volume: Volume, name: str, label: str, source: FramesSource) -> Iterator[Stack]:
        """The times of one position."""
        volume = self._within(volume, source)
        shown = self.measures.view(volume)
        truth = shown if self.channels.target == "intensity" else self.measures.view(volume, normalise=False)
        numbers = channel_numbers(shown, self.channels.inputs), channel_numbers(shown, self.channels.targets)
        there = present(shown)
        _check_complete(there, shown, [*numbers[0], *numbers[1]])
        masks = self._masks(name)
        for time in _range(source.times, shown.box, 0, source.path):
            at = time - shown.box.start[0]
            first = shown.box.start[1]
            exists = there[at][[c - first for c in numbers[1]]]
            if self.channels.target == "mask":
                assert masks is not None
                exists = present(masks)[at]
            seen = there[at][[c - first for c in numbers[0]]].all(axis=0)
            allowed = [z - shown.box.start[2] for z in _range(source.z, shown.box, 2, source.path)]
            planes = self._planes(seen, exists, allowed, f"{shown.path}, time {time}")
            yield self._stack(shown, truth, masks, time, planes, exists, numbers, (name, label, source.weight))

    def _within(self, volume: Volume, source: FramesSource) -> Volume:
        """The slices asked for, where crops are volumes and may begin at any of them."""
        if source.z is None or self.channels.ndim == 2 or "z" not in volume.meta.axes:
            return volume
        axis, box = volume.meta.axes.index("z"), volume.box
        zs = _range(source.z, box, axis, source.path)
        ends = [
            (zs.start, zs.stop) if k == axis else pair for k, pair in enumerate(zip(box.start, box.stop, strict=True))
        ]
        return crop(volume, Box(tuple(a for a, _ in ends), tuple(b for _, b in ends)))

    def _stack(
        self,
        shown: Prepared,
        truth: Prepared,
        masks: Volume | None,
        time: int,
        planes: tuple[int, ...],
        exists: Exists,
        numbers: tuple[tuple[int, ...], tuple[int, ...]],
        told: tuple[str, str, float],
    ) -> Stack:
        position, label, weight = told
        aside: dict[str, FrameImage] = {}
        for kind, volume in (("foreground", masks), ("weights", self._weights(position))):
            if volume is not None:
                aside[kind] = FrameImage(volume, time, (volume.box.start[1],), planes, nearest=_nearest(volume, time))
        truth_of = (
            FrameImage(truth, time, numbers[1], planes, finish=self.finish)
            if self.channels.target != "mask"
            else aside["foreground"]
        )
        return Stack(
            name=f"{label} t{time}" if shown.box.shape[0] > 1 else label,
            position=position,
            inputs=FrameImage(shown, time, numbers[0], planes),
            targets=truth_of,
            exists=exists,
            numbers=numbers,
            values=self._values(shown, label, time, numbers),
            weight=weight,
            **aside,
        )

    def _masks(self, position: str) -> Volume | None:
        if self.channels.target == "mask" and self.measures.masks is None:
            raise UserError(
                "target 'mask' needs masks, and data.preprocessing has none; make them with 'lamella prep masks'"
            )
        return self.measures.mask(position) if self.measures.masks is not None else None

    def _weights(self, position: str) -> Volume | None:
        return self.measures.weight(position) if self.measures.weights else None

    def _planes(self, seen: Exists, exists: Exists, allowed: Sequence[int], where: str) -> tuple[int, ...]:
        """Slices to learn from."""
        if self.channels.ndim == 3:
            if not seen.all():
                gone = ", ".join(str(int(z)) for z in np.flatnonzero(~seen)[:8])
                raise UserError(
                    f"{where}: volumes need all slices of the inputs, and slices {gone} lack some; set data.ndim=2"
                )
            return tuple(allowed)
        depth, reach = self.channels.depth, self.channels.depth // 2
        if len(seen) < depth:
            raise UserError(
                f"{where} has {len(seen)} slices, fewer than depth {depth}; set data.depth and task.depth to at most "
                f"{len(seen) - 1 + len(seen) % 2}"
            )
        known: Exists = np.any(exists, axis=0)
        fits = [z for z in allowed if reach <= z < len(seen) - reach]
        planes = tuple(z for z in fits if known[z] and seen[z - reach : z + reach + 1].all())
        if not planes:
            raise UserError(
                f"{where}: no slice has a target and all inputs in the {depth} slices around it; choose other channels or a "
                "smaller depth"
            )
        return planes

    def _values(
        self, view: Prepared, label: str, time: int, numbers: tuple[tuple[int, ...], tuple[int, ...]]
    ) -> dict[str, tuple[str, ...]]:
        """What a split can go by: for each column its value at every slice."""
        start, stop = view.box.start[2], view.box.stop[2]
        zs = range(start, stop)
        found = {
            "position": (label,) * len(zs),
            "time": (str(time),) * len(zs),
            "slice": tuple(str(z) for z in zs),
            "sample": tuple(f"{label} t{time} z{z}" if self.channels.ndim == 2 else f"{label} t{time}" for z in zs),
        }
        rows, columns = listed_frames(view.meta) or ([], ())
        channel = (numbers[1] or numbers[0])[0]
        for k, column in enumerate(columns, 3):
            told = {row[2]: str(row[k]) for row in rows if row[0] == time and row[1] == channel}
            found.setdefault(column, tuple(told.get(z, "") for z in zs))
        return found


def _check_complete(there: Exists, view: Volume, channels: Sequence[int]) -> None:
    names, first = view.meta.channel_names, view.box.start[1]
    for channel in channels:
        if not there[:, channel - first].any():
            name = f" ({names[channel - first]})" if names and names[channel - first] else ""
            raise UserError(
                f"{view.path} has no frames of channel {channel}{name}; choose the positions that have it with "
                "data.sources.0.positions, or other channels"
            )


def _range(text: str | None, box: Box, axis: int, path: str) -> range:
    """Coordinates along an axis that ``START:STOP`` leaves."""
    whole = Box((box.start[axis],), (box.stop[axis],))
    try:
        part = parse_box(text, whole) if text else whole
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return range(part.start[0], part.stop[0])


def _nearest(volume: Volume, time: int) -> tuple[int, ...]:
    """For each slice the nearest at which a mask exists."""
    there = np.flatnonzero(present(volume)[time - volume.box.start[0], 0])
    if not len(there):
        raise UserError(f"{volume.path} has no mask at time {time}; make it with 'lamella prep masks'")
    return tuple(int(there[np.abs(there - z).argmin()]) for z in range(volume.box.shape[2]))


def restricted(stacks: Sequence[Stack], wanted: Callable[[Stack, int], bool]) -> list[Stack]:
    """Stacks with only the slices that are ``wanted``; those without any left out."""
    for stack in stacks:
        stack.drawn_from(tuple(z for z in stack.planes if wanted(stack, z)))
    return [stack for stack in stacks if stack.planes]
