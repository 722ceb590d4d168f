"""Cutouts: a region is noisy, of other contrast, or gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from lamella.data.augment.base import Augment, Counts, Factors, Levels, Probability
from lamella.data.augment.rectangles import Rectangles, draw_rectangles, plane_of
from lamella.data.augment.shown import CUTOUTS, DARKEST, SHOWN, ImagingAugment, image_shape, with_shown
from lamella.data.sample import Sample


@dataclass(frozen=True)
class ContrastPatches:
    rectangles: Rectangles
    factor: NDArray[np.float64]
    """``(b, c, k)``"""


class ContrastCutouts(ImagingAugment):
    """Regions whose dynamic range is widened or narrowed: intensities times f or 1/f."""

    kind: Literal["contrast_cutouts"] = "contrast_cutouts"
    p: Probability = 0.5
    """Probability that a section has any."""
    most: int = Field(default=4, ge=1)
    """Largest number in one section."""
    factor: Factors = (1.0, 2.0)

    def draw(self, rng: np.random.Generator, sample: Sample) -> ContrastPatches:
        rectangles = draw_rectangles(rng, image_shape(sample), plane_of(sample.space), self.p, self.most)
        return ContrastPatches(rectangles, draw_factor(rng, self.factor, rectangles.angle.shape))

    def change(self, shown: Float[Tensor, "b c *space"], params: ContrastPatches) -> Float[Tensor, "b c *space"]:
        shown = shown.clone()
        for index, window in params.rectangles.present(plane_of(shown.shape)):
            region = shown[index[:2]][(..., *window)]
            inside = params.rectangles.inside(index, window, shown.device)
            factor = torch.where(inside, float(params.factor[index]), 1.0)
            region.mul_(factor)
        return shown


@dataclass(frozen=True)
class MissingPatches:
    rectangles: Rectangles
    level: NDArray[np.float64]
    """``(b, c, k)``, what the net sees there."""


class MissingCutouts(Augment):
    """Regions without data, shown as one grey level; ``cutouts`` says where, so that no loss compares them."""

    kind: Literal["missing_cutouts"] = "missing_cutouts"
    p: Probability = 0.25
    most: int = Field(default=1, ge=1)
    level: Factors = (DARKEST, 1.0)

    def draw(self, rng: np.random.Generator, sample: Sample) -> MissingPatches:
        rectangles = draw_rectangles(rng, image_shape(sample), plane_of(sample.space), self.p, self.most)
        return MissingPatches(rectangles, rng.uniform(*self.level, rectangles.angle.shape))

    def apply(self, sample: Sample, params: MissingPatches) -> Sample:
        sample = with_shown(sample)
        shown, cutouts = sample[SHOWN].tensor.clone(), sample[CUTOUTS].tensor.clone()
        for index, window in params.rectangles.present(plane_of(shown.shape)):
            region = shown[index[:2]][(..., *window)]
            inside = params.rectangles.inside(index, window, shown.device)
            region.copy_(torch.where(inside & (region != 0), float(params.level[index]), region))
            lost = cutouts[index[:2]][(..., *window)]
            lost.masked_fill_(inside, 1.0)
        return sample.with_tensors(**{SHOWN: shown, CUTOUTS: cutouts})


@dataclass(frozen=True)
class NoisePatches:
    rectangles: Rectangles
    std: NDArray[np.float64]
    radius: NDArray[np.int64]
    seed: NDArray[np.int64]
    """all ``(b, c, k)``; a seed gives a patch's noise on the device where it is made"""


class NoiseCutouts(ImagingAugment):
    """Regions with Gaussian noise, of which a share is smoothed to blotches by a box."""

    kind: Literal["noise_cutouts"] = "noise_cutouts"
    p: Probability = 0.5
    most: int = Field(default=2, ge=1)
    std: Levels = (0.001, 0.03)
    """Standard deviation; smoothing keeps it."""
    smoothed: Probability = 0.5
    radius: Counts = (1, 20)
    """Radius of the smoothing box, pixels."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> NoisePatches:
        rectangles = draw_rectangles(rng, image_shape(sample), plane_of(sample.space), self.p, self.most)
        many = rectangles.angle.shape
        radius = rng.integers(*self.radius, many, endpoint=True) * (rng.random(many) < self.smoothed)
        return NoisePatches(rectangles, rng.uniform(*self.std, many), radius, draw_seed(rng, many))

    def change(self, shown: Float[Tensor, "b c *space"], params: NoisePatches) -> Float[Tensor, "b c *space"]:
        shown = shown.clone()
        for index, window in params.rectangles.present(plane_of(shown.shape)):
            region = shown[index[:2]][(..., *window)]
            inside = params.rectangles.inside(index, window, shown.device)
            noise = box_noise(int(params.seed[index]), tuple(inside.shape), int(params.radius[index]), shown)
            region.add_(noise * (float(params.std[index]) * inside))
        return shown


def box_noise(seed: int, plane: tuple[int, ...], radius: int, like: Tensor) -> Float[Tensor, "h w"]:
    """Gaussian noise of standard deviation 1, averaged over a box of ``radius`` and raised to standard deviation 1 again."""
    generator = torch.Generator(like.device).manual_seed(seed)
    size = [n + 2 * radius for n in plane]
    noise = torch.randn(size, generator=generator, dtype=like.dtype, device=like.device)
    if radius == 0:
        return noise
    side = 2 * radius + 1
    mean = F.avg_pool2d(F.avg_pool2d(noise[None, None], (side, 1), 1), (1, side), 1)[0, 0]
    return mean * side  # the mean of side² values has a standard deviation of 1/side


def draw_factor(rng: np.random.Generator, span: tuple[float, float], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """f or 1/f, as likely, f from ``span``."""
    return np.asarray(rng.uniform(*span, shape) ** rng.choice((-1, 1), shape))


def draw_seed(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
    return rng.integers(0, 2**62, shape)
