"""An experiment to be measured: its positions as volumes, the frames that exist, and a check that channels are complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io.frames import present
from lamella.io.frames_table import listed
from lamella.io.positions import open_positions
from lamella.io.prepared import Prepared
from lamella.io.preprocessing import Preprocessing, channel_numbers, root_of
from lamella.prep.frame_settings import Channel, Selection


@dataclass(frozen=True, order=True)
class Frame:
    """A frame of an experiment: position, time, channel, slice."""

    position: str
    time: int
    channel: int
    slice: int

    def __str__(self) -> str:
        where = f"position {self.position}, " if self.position else ""
        return f"{where}channel {self.channel}, slice {self.slice}, time {self.time}"


def read_frame(views: Mapping[str, Prepared], frame: Frame) -> NDArray[np.float32]:
    """The frame's image (y, x)."""
    view, z = views[frame.position], (frame.time, frame.channel, frame.slice)
    start, stop = view.box.start[3:], view.box.stop[3:]
    return view.read(Box((*z, *start), (*(n + 1 for n in z), *stop)))[0, 0, 0]


@dataclass(frozen=True)
class Experiment:
    """The positions of ``source`` that are selected, seen through what was measured already, not normalised."""

    source: str
    names: tuple[str, ...]
    views: dict[str, Prepared]
    select: Selection

    @classmethod
    def open(cls, source: str, select: Selection, measures: Preprocessing | None = None) -> Experiment:
        """Open all positions; a volume that is no such experiment is one position with an empty name."""
        there = open_positions(source)
        unknown = [p for p in select.positions or () if p not in there]
        if unknown:
            has = listed([p for p in there if p]) or "only one, without a name"
            raise UserError(f"positions {listed(unknown)} are not in {source}, which has {has}; choose of those")
        measures = measures or Preprocessing()
        chosen = {p: v for p, v in there.items() if select.positions is None or p in select.positions}
        names, views = tuple(chosen), {p: measures.view(v, normalise=False) for p, v in chosen.items()}
        return cls(source, names, views, select)

    @property
    def root(self) -> str:
        return root_of(self.source)

    @property
    def first(self) -> Volume:
        return self.views[self.names[0]]

    def channel_name(self, channel: int) -> str:
        """The channel's name, or its number as in the naming of files."""
        names = self.first.meta.channel_names
        return (names[channel - self.first.box.start[1]] if names else "") or f"c{channel:03d}"

    def channels(self, chosen: Sequence[Channel] | None) -> tuple[int, ...]:
        """Numbers of the channels chosen, by default all; every position must have them."""
        start, stop = self.first.box.start[1], self.first.box.stop[1]
        numbers = channel_numbers(self.first, range(start, stop) if chosen is None else chosen)
        self._check_complete(numbers)
        return numbers

    def _check_complete(self, channels: Iterable[int]) -> None:
        """Refuse channels that some positions lack altogether."""
        for channel in channels:
            lacking = [p for p in self.names if not any(f.channel == channel for f in self._by_position[p])]
            if lacking:
                raise UserError(
                    f"channel {channel} has no frames at positions {listed(lacking)}; choose the positions that have it, "
                    "or other channels"
                )

    @cached_property
    def _by_position(self) -> dict[str, tuple[Frame, ...]]:
        return {p: tuple(self._frames(p)) for p in self.names}

    def _frames(self, position: str) -> Iterable[Frame]:
        view, select = self.views[position], self.select
        there = present(view)
        for t, c, z in np.argwhere(there) + view.box.start[:3]:
            wanted = (select.times is None or t in select.times) and (select.slices is None or z in select.slices)
            if wanted:
                yield Frame(position, int(t), int(c), int(z))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames, which must be those of all positions."""
        sizes = {p: v.box.shape[3:] for p, v in self.views.items()}
        usual = sizes[self.names[0]]
        odd = [f"{p} ({s[0]} by {s[1]})" for p, s in sizes.items() if s != usual]
        if odd:
            raise UserError(
                f"frames of {self.names[0]} are {usual[0]} by {usual[1]} px, but not those of {listed(odd)}; choose positions of "
                "one size"
            )
        return usual[0], usual[1]

    def frames(self, channels: Sequence[int]) -> tuple[Frame, ...]:
        """All frames of these channels that exist and are selected, by position, time, channel, slice."""
        found = tuple(f for p in self.names for f in self._by_position[p] if f.channel in channels)
        if not found:
            raise UserError(
                f"{self.source} has no frames of channels {list(channels)} in what was selected; select more"
            )
        return found
