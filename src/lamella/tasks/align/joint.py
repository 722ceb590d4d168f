"""Aligning each section to several others at once, in place of one after the other.

```
pairs    every section matched with those before it, as they are          all at once
vote     section after section: what most of its links agree on           in order, but without the net
relax    all sections of a window, all links and springs together         (joint) window after window
```

A round is these three; the next matches the sections as they are aligned by then, so that what a pair missed is found from where the
others put it. Last, the raw sections are looked up through the fields, once. So one bad section does not mislead those behind it, lost
ones are bridged, and all but the voting can be done side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lamella.blockwise import cover
from lamella.blockwise.blocks import Cover
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.tasks.align.masked import Blanked
from lamella.tasks.align.pairs import Found, Frames, MatchPairs, pairs_of
from lamella.tasks.align.relax import Relaxation
from lamella.tasks.align.stages import Stored
from lamella.tasks.align.together import Blend, RelaxTile, Show, VoteTile, Window
from lamella.tasks.align.walk import Items, Stages, Walk

_LEVELS = 3  # grids of the relaxation


@dataclass(frozen=True)
class _Round:
    """One round: its number, how its sections are seen, the links, and where its fields go."""

    number: int
    frames: Frames
    found: Found
    voted: Stored
    solved: Stored


class Together(Walk):
    """An alignment whose sections' fields come of links to several neighbours, by voting or by relaxing (``joint``)."""

    def check(self) -> None:
        """Raise UserError if both ends are to stay and a chain is longer than a window."""
        longest = max(c.stop - c.start for c in self.chains)
        if self._relaxed and self.config.joint.ends == "both" and longest > self.config.joint.window:
            raise UserError(
                f"joint.ends both holds the first and last of {longest + 1} sections, which must be relaxed at once, but joint.window "
                f"is {self.config.joint.window}; set joint.window to {longest} or more, or chain to {self.config.joint.window} or less"
            )

    def create(self, facts: dict[str, Any]) -> None:
        super().create(facts)
        pairs, tiling = len(self._pairs), self.plane.tiling
        shape = tuple(min(tiling.largest, n) for n in tiling.shape)
        self._create_tiles(self._links_path, (pairs * len(tiling), 3, *shape))
        for path in {self._voted_path, *(self._solved_path(n) for n in range(self.config.joint.rounds - 1))}:
            self._create_fields(path, {})
        if self.config.joint.rounds > 1:
            self._create_image(self._shown_path, {})
            if self.masks is not None:
                self._create_image(self._shown_masks_path, {}, "uint8")

    @property
    def num_blocks(self) -> int:
        tiles, blocks, rounds = len(self.plane.tiling), len(self._blocks(1)), self.config.joint.rounds
        sections = self.box.shape[0] - 1
        masked = 1 if self.masks is not None else 0
        each = len(self._pairs) * tiles + sections * (tiles + blocks)
        if self._relaxed:
            windows = [w for c in self.chains for w in self._windows(c)]
            each += len(windows) * tiles + sum(w.last - w.first + 1 for w in windows) * blocks
        shown = (rounds - 1) * sections * (1 + masked) * blocks
        last = len(self.chains) * blocks if self._stitched else 0
        return rounds * each + shown + last + blocks * (1 + masked) + sections * blocks * (1 + masked)

    @property
    def num_slots(self) -> int:
        return len(self.chains) * (self._room if self._relaxed else 1)

    def _align_all(self, aligned: Volume, fields: Stored, stages: Stages, masks_path: str | None) -> None:
        shown: Volume | None = None
        reference: Stored | None = None
        for number in range(self.config.joint.rounds):
            last = number == self.config.joint.rounds - 1
            solved = fields if last else Stored(open_volume(self._solved_path(number), writable=True))
            voted = Stored(open_volume(self._voted_path, writable=True)) if self._relaxed else solved
            frames = self._frames(shown, reference)
            links = open_volume(self._links_path, writable=True)
            this = _Round(number, frames, Found(links, self.plane, self._pairs, self.config.joint.far), voted, solved)
            self._match(this, links, stages)
            self._vote(this, stages)
            if self._relaxed:
                self._relax(this, stages)
            if not last:
                shown, reference = open_volume(self._shown_path, writable=True), solved
                self._show(shown, solved, stages, f"show-{number}")
                self._carry(self._all, self._shown_masks_path, solved, stages, f"show-masks-{number}")
        if not self._stitched:
            self._show(aligned, fields, stages, "show")
            self._carry(self._all, masks_path, fields, stages, "masks")

    def _frames(self, shown: Volume | None, reference: Stored | None) -> Frames:
        if self.masks is None:
            return Frames(self.source, shown, reference)
        if shown is None:
            return Frames(Blanked(self.source, self.masks), None, None, (self.masks, self.masks))
        carried = open_volume(self._shown_masks_path)
        return Frames(Blanked(self.source, self.masks), Blanked(shown, carried), reference, (self.masks, carried))

    def _match(self, this: _Round, links: Volume, stages: Stages) -> None:
        job = MatchPairs(this.frames, links, self.estimator, self.plane, self._pairs)
        stages.run(job, self._tiles(len(self._pairs)), f"match-{this.number}", None)

    def _vote(self, this: _Round, stages: Stages) -> None:
        settings, scratch = self.config.joint, open_volume(self._tiles_path, writable=True)
        for items in self._rounds():
            z = items[0][1]
            job = VoteTile(
                this.frames,
                this.found,
                this.voted,
                scratch,
                self.plane,
                items,
                settings.neighbours,
                settings.width,
            )
            stages.run(job, self._tiles(len(items)), f"vote-{this.number}-{z}", z)
            blend = Blend(this.voted, scratch, self.plane, tuple((z, n) for n, (_, z) in enumerate(items)))
            stages.run(blend, self._blocks(len(items)), f"voted-{this.number}-{z}", z)

    def _relax(self, this: _Round, stages: Stages) -> None:
        settings, scratch = self.config.joint, open_volume(self._tiles_path, writable=True)
        relaxation = Relaxation(settings.width / self.plane.step, settings.springs, settings.penalty, levels=_LEVELS)
        for windows in self._window_rounds():
            z = windows[0].first
            job = RelaxTile(
                this.frames,
                this.found,
                this.voted,
                this.solved,
                scratch,
                self.plane,
                windows,
                settings.neighbours,
                self._room,
                relaxation,
                settings.ends == "both",
                self.config.torn if self.masks is not None else None,
            )
            stages.run(job, self._tiles(len(windows)), f"relax-{this.number}-{z}", z)
            places = tuple(
                (z, item * self._room + n)
                for item, w in enumerate(windows)
                for n, z in enumerate(range(w.first, w.last + 1))
            )
            blend = Blend(this.solved, scratch, self.plane, places)
            stages.run(blend, self._blocks(len(places)), f"relaxed-{this.number}-{z}", z)

    def _show(self, aligned: Volume, fields: Stored, stages: Stages, name: str) -> None:
        job = Show(self.source, aligned, fields, self.plane, self._all, self.masks is not None)
        stages.run(job, self._blocks(len(self._all)), name, None)

    def _windows(self, chain: Any) -> list[Window]:
        """Windows overlap by half, and each begins behind what is then final."""
        length, windows, solved = self._room, [], chain.start
        first = chain.start + 1
        while solved < chain.stop:
            last = min(first + length - 1, chain.stop)
            windows.append(Window(chain, first, last, solved))
            solved, first = last, first + length // 2
        return windows

    def _window_rounds(self) -> Iterator[tuple[Window, ...]]:
        """The windows that can be relaxed at once: the n-th of every chain."""
        lists = [self._windows(c) for c in self.chains]
        for n in range(max(len(windows) for windows in lists)):
            yield tuple(windows[n] for windows in lists if n < len(windows))

    def _tiles(self, num_items: int) -> Cover:
        return cover(Box.of((num_items * len(self.plane.tiling),)), 1)

    @property
    def _all(self) -> Items:
        return tuple((c, z) for c in self.chains for z in range(c.start + 1, c.stop + 1))

    @property
    def _pairs(self) -> tuple[Any, ...]:
        return pairs_of(self.chains, self.config.joint.neighbours)

    @property
    def _relaxed(self) -> bool:
        return self.config.method == "joint"

    @property
    def _room(self) -> int:
        """Sections of the longest window."""
        return min(self.config.joint.window, max(c.stop - c.start for c in self.chains))

    def _solved_path(self, number: int) -> str:
        return f"{self.paths.scratch}/solved-{number % 2}.fields.zarr"

    @property
    def _voted_path(self) -> str:
        return f"{self.paths.scratch}/voted.fields.zarr"

    @property
    def _links_path(self) -> str:
        return f"{self.paths.scratch}/links.zarr"

    @property
    def _shown_path(self) -> str:
        return f"{self.paths.scratch}/shown.zarr"

    @property
    def _shown_masks_path(self) -> str:
        return f"{self.paths.scratch}/shown.masks.zarr"
