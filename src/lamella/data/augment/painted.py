"""Cracks, folds and dirt as they look, painted over tissue that stays where it is: what a detector of defects learns from.

Beside ``crack``, ``fold`` and ``blackout``, which move tissue along rows or columns and keep known fields true, these run in any
direction, taper, branch and have soft edges of any shape. ``masks`` gets 2 where the damage is and 1 around it. A detector cannot
see whether the sides of a crack have moved, only what it looks like.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage as ndi
from torch import Tensor

from lamella.core.rng import stream
from lamella.data.augment.base import Augment, Counts, Levels, Probability, happens, need_plane, num_sections
from lamella.data.augment.courses import Course, cover, wander
from lamella.data.augment.damage import edit, mark, need_floats, with_masks
from lamella.data.augment.shown import DARKEST
from lamella.data.sample import SECTIONS, Sample

Fill = Literal["dark", "light", "grey"]
Image = NDArray[np.float32]


@dataclass(frozen=True)
class Painted:
    """What is painted on section ``section`` of sample ``sample``: see the augmentation for what the numbers mean."""

    sample: int
    section: int
    shape: tuple[Any, ...]
    level: float
    grain: float
    soft: float
    seed: int


class _Paint(Augment):
    """What painted damage has in common."""

    p: Probability = 0.25
    """Probability that a section has any."""
    near: int = Field(default=20, ge=0)
    """Pixels beside the damage that are marked 1."""
    soft: Levels = (0.5, 2.0)
    """Pixels over which its edge goes from nothing to all."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> tuple[Painted, ...]:
        need_plane(sample, self.kind)
        struck = happens(rng, self.p, (sample.batch, num_sections(sample)))
        return tuple(one for b, s in np.argwhere(struck) for one in self._drawn(rng, int(b), int(s), sample.space))

    def apply(self, sample: Sample, params: tuple[Painted, ...]) -> Sample:
        need_floats(sample)
        sample = with_masks(sample)
        if not params:
            return sample
        images = sample[SECTIONS].tensor.detach().cpu().numpy().astype(np.float32)
        changed, share = images.copy(), np.zeros_like(images)
        for one in params:
            at = (one.sample, one.section)
            changed[at], here = self._paint(changed[at], one)
            share[at] = np.maximum(share[at], here)
        inside = torch.from_numpy(share > 0.5).to(sample.device)
        reach = [ndi.distance_transform_edt(~one) <= self.near for one in (share > 0.5).reshape(-1, *sample.space)]
        near = torch.from_numpy(np.stack(reach).reshape(share.shape) & (share > 0.5).any((2, 3), keepdims=True))
        painted = torch.from_numpy(changed).to(sample.device)
        sample = edit(sample, "image", lambda image, s: _as_tissue(painted[:, s].to(image.dtype), image))
        return mark(sample, inside, near.to(sample.device))

    @abstractmethod
    def _drawn(self, rng: np.random.Generator, b: int, s: int, space: tuple[int, ...]) -> list[Painted]:
        """What is painted on one section."""

    @abstractmethod
    def _paint(self, image: Image, one: Painted) -> tuple[Image, Image]:
        """The section (y, x) with the damage, and the share (0 to 1) that it has of each pixel."""


class Rift(_Paint):
    """A crack that runs in any direction, tapers, and may branch; one sees resin, film or the dark through it."""

    kind: Literal["rift"] = "rift"
    most: int = Field(default=2, ge=1)
    """Cracks on a section that has any: 1 up to this."""
    width: Counts = (3, 28)
    """Pixels where it is widest; narrow ones are commoner, in proportion to one over the width."""
    length: Levels = (0.4, 1.6)
    """Length over the side of the section."""
    branches: float = Field(default=0.6, ge=0)
    """Branches of a crack, on the mean."""
    fills: tuple[Fill, ...] = Field(default=("dark", "light", "light", "grey"), min_length=1)
    """Looks, one drawn per crack."""
    dark: Levels = (0.0, 0.2)
    light: Levels = (0.78, 1.0)
    grey: Levels = (0.35, 0.75)
    grain: Levels = (0.005, 0.06)
    """Standard deviation of the grey values in it."""

    def _drawn(self, rng: np.random.Generator, b: int, s: int, space: tuple[int, ...]) -> list[Painted]:
        found = []
        for _ in range(int(rng.integers(1, self.most, endpoint=True))):
            half = _log_uniform(rng, self.width) / 2
            length = rng.uniform(*self.length) * max(space)
            courses = wander(rng, space, length, half, self.branches, rng.uniform(0.3, 1.5))
            level = rng.uniform(*getattr(self, str(rng.choice(np.array(self.fills)))))
            found.append(_painted(rng, b, s, courses, level, rng.uniform(*self.grain), self.soft))
        return found

    def _paint(self, image: Image, one: Painted) -> tuple[Image, Image]:
        depth, _ = cover(one.shape, image.shape)
        share = _share(depth, one.soft)
        return _filled(image, share, one), share


class Wrinkle(_Paint):
    """A fold that runs in any direction and tapers: a dark band in which tissue lies double or threefold."""

    kind: Literal["wrinkle"] = "wrinkle"
    most: int = Field(default=2, ge=1)
    width: Counts = (5, 44)
    """Pixels across the band where it is widest."""
    length: Levels = (0.5, 1.8)
    """Length over the side of the section."""
    branches: float = Field(default=0.25, ge=0)
    dim: Levels = (0.2, 0.65)
    """Intensity in the band over that of a single layer."""
    doubled: Levels = (0.2, 0.9)
    """How much of the other layer's structure is seen in the band."""

    def _drawn(self, rng: np.random.Generator, b: int, s: int, space: tuple[int, ...]) -> list[Painted]:
        found = []
        for _ in range(int(rng.integers(1, self.most, endpoint=True))):
            half = _log_uniform(rng, self.width) / 2
            length = rng.uniform(*self.length) * max(space)
            courses = wander(rng, space, length, half, self.branches, rng.uniform(0.1, 0.8))
            found.append(
                _painted(
                    rng, b, s, courses, rng.uniform(*self.dim), rng.uniform(*self.doubled), (0.5, 2 * self.soft[1])
                )
            )
        return found

    def _paint(self, image: Image, one: Painted) -> tuple[Image, Image]:
        """Light that has passed one layer passes the next: intensities multiply."""
        depth, half = cover(one.shape, image.shape)
        share = _share(depth, one.soft)
        rng = stream(one.seed, "layer")
        angle, reach = rng.uniform(0, 2 * np.pi), 2 * float(half.max()) + 4
        other = np.roll(image, np.rint(reach * np.array([np.sin(angle), np.cos(angle)])).astype(int), (0, 1))
        other = np.where(other == 0, 1, other)  # nothing lies there, so nothing is added
        brightest = max(float(np.quantile(image[image > 0], 0.95)), DARKEST) if (image > 0).any() else 1.0
        core = 1 - 0.3 * np.clip(depth / np.maximum(half, 1), 0, 1) * rng.random()
        factor = one.level * core * (1 - one.grain + one.grain * np.minimum(other / brightest, 1))
        return (image * (1 - share) + image * factor * share).astype(np.float32), share


class Debris(_Paint):
    """Dirt, stain and holes: uneven patches under which no tissue is seen, dark or light, small and many or large and few."""

    kind: Literal["debris"] = "debris"
    most: int = Field(default=4, ge=1)
    """Patches on a section that has any: 1 up to this."""
    radius: Levels = (5.0, 40.0)
    """Pixels; small ones are commoner, in proportion to one over the radius."""
    uneven: Levels = (0.05, 0.25)
    """Standard deviation of the outline's radius over the mean."""
    fills: tuple[Fill, ...] = Field(default=("dark", "dark", "light"), min_length=1)
    dark: Levels = (0.0, 0.2)
    light: Levels = (0.82, 1.0)
    grey: Levels = (0.35, 0.75)
    grain: Levels = (0.0, 0.06)

    def _drawn(self, rng: np.random.Generator, b: int, s: int, space: tuple[int, ...]) -> list[Painted]:
        found = []
        for _ in range(int(rng.integers(1, self.most, endpoint=True))):
            centre, radius = rng.uniform(-0.1, 1.1, 2) * np.array(space), _log_uniform(rng, self.radius)
            waves = np.arange(2, 9)
            sizes = rng.standard_normal(len(waves)) / waves**1.5
            sizes *= rng.uniform(*self.uneven) / np.sqrt((sizes**2).sum() / 2)
            outline = (centre, radius, waves, sizes, rng.uniform(0, 2 * np.pi, len(waves)))
            level = rng.uniform(*getattr(self, str(rng.choice(np.array(self.fills)))))
            found.append(_painted(rng, b, s, outline, level, rng.uniform(*self.grain), (0.5, 2 * self.soft[1])))
        return found

    def _paint(self, image: Image, one: Painted) -> tuple[Image, Image]:
        centre, radius, waves, sizes, phases = one.shape
        y, x = (np.arange(n, dtype=np.float32) - c for n, c in zip(image.shape, centre, strict=True))
        angle = np.arctan2(y[:, None], x[None])
        outline = 1 + sum(a * np.cos(k * angle + f) for k, a, f in zip(waves, sizes, phases, strict=True))
        depth = radius * np.maximum(outline, 0.2) - np.hypot(y[:, None], x[None])
        share = _share(depth.astype(np.float32), one.soft)
        return _filled(image, share, one), share


def _painted(
    rng: np.random.Generator,
    b: int,
    s: int,
    shape: tuple[Any, ...] | tuple[Course, ...],
    level: float,
    grain: float,
    soft: tuple[float, float],
) -> Painted:
    return Painted(b, s, shape, float(level), float(grain), float(rng.uniform(*soft)), int(rng.integers(2**62)))


def _log_uniform(rng: np.random.Generator, span: tuple[float | int, float | int]) -> float:
    return float(np.exp(rng.uniform(*np.log(span))))


def _share(depth: Image, soft: float) -> Image:
    """1 well below the edge, 0 outside, one half at the edge itself."""
    return np.clip(depth / max(soft, 1e-3) + 0.5, 0, 1)


def _filled(image: Image, share: Image, one: Painted) -> Image:
    """The image with grey values of one level and smooth grain where ``share`` says."""
    rng = stream(one.seed, "grain")
    noise = ndi.gaussian_filter(rng.standard_normal(image.shape), rng.uniform(0, 2))
    fill = one.level + one.grain * noise / max(float(noise.std()), 1e-6)
    return (image * (1 - share) + np.clip(fill, DARKEST, 1) * share).astype(np.float32)


def _as_tissue(changed: Tensor, before: Tensor) -> Tensor:
    """Missing data stay missing, and nothing else becomes so."""
    return torch.where((before == 0) | (changed == before), before, changed.clamp_min(DARKEST))
