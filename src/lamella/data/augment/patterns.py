"""Shading of whole sections: gradients and tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from lamella.data.augment.base import Counts, Levels, Probability, happens
from lamella.data.augment.rectangles import plane_of
from lamella.data.augment.shown import ImagingAugment, image_shape
from lamella.data.sample import Sample


@dataclass(frozen=True)
class Waves:
    """count ``(b, c)``; the others ``(b, c, k)``: peak, angle in radians, periods across the shorter side, phase in periods."""

    count: NDArray[np.int64]
    peak: NDArray[np.float64]
    angle: NDArray[np.float64]
    periods: NDArray[np.float64]
    phase: NDArray[np.float64]


class Gradients(ImagingAugment):
    """Triangle waves in any direction, from 0 to a peak, added to the section."""

    kind: Literal["gradients"] = "gradients"
    p: Probability = 0.5
    most: int = Field(default=2, ge=0)
    """Largest number in one section; with probability p a section has 0 to this many."""
    peak: Levels = (0.0, 0.3)
    periods: float = Field(default=17.0, ge=0)
    """Mean of the exponential distribution of periods across the shorter side, beyond the first."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Waves:
        shape = image_shape(sample)
        many = (*shape, self.most)
        count = rng.integers(0, self.most, shape, endpoint=True) * happens(rng, self.p, shape)
        periods = 1 + rng.exponential(self.periods, many)
        return Waves(count, rng.uniform(*self.peak, many), rng.uniform(0, 2 * np.pi, many), periods, rng.random(many))

    def change(self, shown: Float[Tensor, "b c *space"], params: Waves) -> Float[Tensor, "b c *space"]:
        plane = plane_of(shown.shape)
        changed = shown.clone()
        for index in present(params.count, self.most):
            slope = float(params.periods[index]) / min(plane)
            angle, phase = float(params.angle[index]), float(params.phase[index])
            y = (
                torch.arange(plane[0], dtype=shown.dtype, device=shown.device)[:, None] * (slope * np.cos(angle))
                + phase
            )
            x = torch.arange(plane[1], dtype=shown.dtype, device=shown.device) * (slope * np.sin(angle))
            time = y + x
            wave = (time - time.floor()).sub_(0.5).abs_().mul_(2 * float(params.peak[index]))
            changed[index[:2]].add_(wave)
        return changed


@dataclass(frozen=True)
class Tiles:
    """count ``(b, c)``; per pattern ``(b, c, k)``: peak, angle of the ramp in a tile, tiles per side; shift ``(b, c, k, rows)``."""

    count: NDArray[np.int64]
    peak: NDArray[np.float64]
    angle: NDArray[np.float64]
    number: NDArray[np.int64]
    shift: NDArray[np.float64]


class Tilings(ImagingAugment):
    """A section covered with tiles that each brighten in one direction, rows shifted against each other, as mosaics of camera
    images are whose vignettes were not removed.
    """

    kind: Literal["tilings"] = "tilings"
    p: Probability = 0.5
    most: int = Field(default=1, ge=0)
    """Largest number in one section; with probability p a section has 0 to this many."""
    peak: Levels = (0.0, 0.5)
    number: Counts = (6, 32)
    """Tiles per side."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Tiles:
        shape = image_shape(sample)
        many = (*shape, self.most)
        count = rng.integers(0, self.most, shape, endpoint=True) * happens(rng, self.p, shape)
        number = rng.integers(*self.number, many, endpoint=True)
        peak, angle = rng.uniform(*self.peak, many), rng.uniform(0, 2 * np.pi, many)
        return Tiles(count, peak, angle, number, rng.random((*many, self.number[1])))

    def change(self, shown: Float[Tensor, "b c *space"], params: Tiles) -> Float[Tensor, "b c *space"]:
        height, width = plane_of(shown.shape)
        changed = shown.clone()
        for index in present(params.count, self.most):
            number, angle = int(params.number[index]), float(params.angle[index])
            y = torch.arange(height, dtype=shown.dtype, device=shown.device) * (number / height)
            row = y.floor()
            shift = torch.as_tensor(params.shift[index], dtype=shown.dtype).to(shown.device)[row.long()]
            x = torch.arange(width, dtype=shown.dtype, device=shown.device) * (number / width) + shift[:, None]
            down, across = np.cos(angle), np.sin(angle)
            steep = float(params.peak[index]) / (abs(down) + abs(across))
            lowest = min(down, 0) + min(across, 0)
            ramp = (x - x.floor()).mul_(across * steep).add_(((y - row) * down - lowest)[:, None] * steep)
            changed[index[:2]].add_(ramp)
        return changed


def present(count: NDArray[np.int64], most: int) -> list[tuple[int, int, int]]:
    """Index ``(b, c, k)`` of each pattern that is there."""
    return [(int(b), int(c), int(k)) for b, c, k in np.argwhere(np.arange(most) < count[..., None])]
