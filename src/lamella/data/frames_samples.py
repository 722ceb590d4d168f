"""Samples drawn from opened positions, and tiles that cover them; see ``lamella.data.frames``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.core.rng import stream
from lamella.data.crops import Start
from lamella.data.frames_stack import Stack
from lamella.data.numbered import Chances, Drawn, Numbered
from lamella.data.sample import Layer, Sample

if TYPE_CHECKING:
    from lamella.data.frames import FramesData

IMAGE, TARGET, WEIGHT = "image", "target", "weight"
_TRIES = 20  # crops drawn around a tile with enough foreground before the tile itself is taken


class _Samples(Numbered):
    """What drawn samples and tiles share."""

    def __init__(self, config: FramesData, stacks: list[Stack]) -> None:
        self.config, self.stacks = config, stacks
        self.shown, self.truth = config.crops(config.depth), config.crops(config.target_depth)

    def _sample(self, stack: Stack, start: Start, valid: NDArray[np.float32] | None = None) -> Sample:
        """The crop at ``start``; ``valid`` (*space) where it counts, by itself where the crop shows the image."""
        image, inside = self.shown.shown(stack.inputs, start)
        target, _ = self.truth.shown(stack.targets, start)
        weight = np.broadcast_to(inside if valid is None else valid, target.shape) * self._exists(stack, start)
        counting = {"mask": stack.foreground, "weights": stack.weights}.get(self.config.weigh)
        if counting is not None:
            weight = weight * np.tile(
                self.truth.shown(counting, start)[0], (self.config.num_targets, *[1] * inside.ndim)
            )
        kind: Any = "image" if self.config.target == "intensity" else "label"
        return Sample(
            {IMAGE: _layer(image, "image"), TARGET: _layer(target, kind), WEIGHT: _layer(weight, "weight")},
        )

    def _exists(self, stack: Stack, start: Start) -> NDArray[np.bool_]:
        """Whether each channel of the target exists, (t, 1, 1), or (t, z, 1, 1) in 3D."""
        num = stack.exists.shape[1]
        if self.config.ndim == 2:
            reach = self.config.target_depth // 2
            zs = np.clip(np.arange(start[0] - reach, start[0] + reach + 1), 0, num - 1)
            return stack.exists[:, zs].reshape(-1, 1, 1)
        zs = np.arange(start[0], start[0] + self.truth.size[0])
        there = stack.exists[:, np.clip(zs, 0, num - 1)]
        return there[..., None, None]


def _layer(array: NDArray[Any], kind: Any) -> Layer:
    return Layer(torch.from_numpy(np.ascontiguousarray(array, np.float32))[None], kind)


class FramesSamples(Drawn, _Samples):
    """Samples by index, see the module. Picklable; indices past ``length`` begin again."""

    def __init__(self, config: FramesData, stacks: list[Stack], seed: int) -> None:
        super().__init__(config, stacks)
        self.seed, self.length = seed, config.length
        self._tiles = self._kept_tiles() if config.rule.min_fraction > 0 else {}
        if self._tiles:
            self.stacks = [stack for k, stack in enumerate(stacks) if self._tiles.get(k)]
            self._tiles = {k: self._tiles[stacks.index(stack)] for k, stack in enumerate(self.stacks)}
        sizes = [s.weight * len(s.planes) * s.inputs.shape[1] * s.inputs.shape[2] for s in self.stacks]
        self._chances = Chances(sizes)

    def sample(self, index: int) -> Sample:
        rng = stream(self.seed, "sample", index)
        number = self._chances.pick(rng)
        return self._sample(self.stacks[number], self._draw(rng, number))

    def _draw(self, rng: np.random.Generator, number: int) -> Start:
        """Anywhere; or, where crops need foreground, around one of the tiles that have enough."""
        stack = self.stacks[number]
        if not self._tiles:
            return self._with_target(rng, stack)
        tile = self._tiles[number][int(rng.integers(len(self._tiles[number])))]
        room = [n // 2 for n in self.truth.size]
        for _ in range(_TRIES):
            moved = [a + int(rng.integers(-n, n + 1)) for a, n in zip(tile[-len(room) :], room, strict=True)]
            start = (*tile[: -len(room)], *self._within(stack, moved))
            if self._keeps(stack, start):
                return start
        return tile

    def _with_target(self, rng: np.random.Generator, stack: Stack) -> Start:
        """A crop that has a target somewhere: any in 2D, in 3D one that holds a slice where one exists."""
        for _ in range(_TRIES * len(stack.planes)):
            start = self.shown.draw(rng, stack.inputs)
            if self._exists(stack, start).any():
                return start
        raise UserError(
            f"{stack.name}: of {_TRIES * len(stack.planes)} crops of {self.truth.size} none holds a slice with a target; make data.crop "
            "deeper, or train in 2D"
        )

    def _within(self, stack: Stack, start: list[int]) -> list[int]:
        """The nearest place at which the crop stays inside the image as far as it fits."""
        lasts = [max(n - s, 0) for n, s in zip(stack.inputs.shape[-len(start) :], self.truth.size, strict=True)]
        return [min(max(a, 0), last) for a, last in zip(start, lasts, strict=True)]

    def _kept_tiles(self) -> dict[int, list[Start]]:
        """The tiles with enough foreground, by the number of their stack."""
        found: dict[int, list[Start]] = {}
        with progress("choosing tiles", len(self.stacks), "stacks") as meter:
            for number, stack in enumerate(self.stacks):
                found[number] = [start for start in self.truth.cover(stack.inputs) if self._keeps(stack, start)]
                meter.advance()
        if not any(found.values()):
            raise UserError(
                f"no crop of {self.truth.size} has at least {self.config.rule.min_fraction:.0%} foreground, so the masks leave nothing "
                "to train on; lower data.min_fraction, or make other masks"
            )
        return found

    def _keeps(self, stack: Stack, start: Start) -> bool:
        assert stack.foreground is not None
        shown, inside = self.config.crops().shown(stack.foreground, start)
        return bool(self._exists(stack, start).any()) and self.config.rule.keeps(shown[0][inside > 0] > 0)


class FramesTiles(_Samples):
    """Every slice once, in order: each pixel counts in exactly one tile."""

    def __init__(self, config: FramesData, stacks: list[Stack]) -> None:
        super().__init__(config, stacks)
        covers = ((stack, start) for stack in stacks for start in self.truth.cover(stack.inputs))
        self._tiles = [(stack, start) for stack, start in covers if self._exists(stack, start).any()]

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> Sample:
        stack, start = self._tiles[index]
        _, inside = self.truth.shown(stack.targets, start)
        return self._sample(stack, start, self.truth.own(stack.targets, start, inside))
