"""Jitter: each section gets a small shift, rotation and scale of its own, which is what an aligner learns to undo."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lamella.data.augment.affine import rotation
from lamella.data.augment.base import Chance, GeometricAugment, Normal, Probability, happens, need_plane, num_sections
from lamella.data.geometry import Geometry, affine
from lamella.data.sample import Sample

_MOST_OVER_LEAST = 4  # of the probabilities of shifts


class Jitter(GeometricAugment):
    """Move each section by itself, as sections are when they have been cut and photographed one by one."""

    kind: Literal["jitter"] = "jitter"
    max_shift: int = Field(default=5, ge=0)
    """Largest shift along an axis, voxels; ``jitter_reach(levels)`` is what a pyramid of that many levels can undo."""
    p: Probability = 0.5
    """Probability that a section is shifted; all are turned and scaled."""
    degrees: Chance = Normal(mean=0, std=math.degrees(0.01))
    scale: Chance = Normal(mean=1, std=0.01)

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        need_plane(sample, self.kind)
        shape = (sample.batch, num_sections(sample))
        shifted = happens(rng, self.p, (*shape, 1))
        shift = draw_shift(rng, self.max_shift, (*shape, 2)) * shifted
        angle = np.deg2rad(self.degrees.draw(rng, shape))
        scale = np.maximum(self.scale.draw(rng, shape), 0.01)
        return affine(rotation(angle, 2) / scale[..., None, None], sample.space, shift)


def jitter_reach(levels: int) -> int:
    """The jitter that a pyramid of ``levels`` levels can undo: half of the 2^(levels-1) voxels that its levels reach together
    at about one pixel each, along a diagonal. 5 for five levels, 22 for seven, 45 for eight.
    """
    return math.floor(2 ** (levels - 1) / (2 * math.sqrt(2)))


def draw_shift(rng: np.random.Generator, most: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Shifts of 1 to ``most`` voxels either way, larger ones more often: probability grows with the square of the distance, but
    the commonest is at most four times as common as the rarest.
    """
    if most == 0:
        return np.zeros(shape, np.int64)
    distance = np.arange(1, most + 1)
    weight = np.maximum(distance**2, most**2 / _MOST_OVER_LEAST)
    return rng.choice(distance, shape, p=weight / weight.sum()) * rng.choice((-1, 1), shape)
