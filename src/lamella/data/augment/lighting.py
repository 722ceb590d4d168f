"""Lighting of whole sections: brightness, dynamic range, gamma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lamella.data.augment.base import Factors, Levels, Probability, happens
from lamella.data.augment.cutouts import draw_factor
from lamella.data.augment.shown import ImagingAugment, image_shape, spread
from lamella.data.sample import Sample


@dataclass(frozen=True)
class Line:
    """``intensity * factor + offset``, each ``(b, c)``."""

    factor: NDArray[np.float64]
    offset: NDArray[np.float64]


class _Linear(ImagingAugment):
    def change(self, shown: Float[Tensor, "b c *space"], params: Line) -> Float[Tensor, "b c *space"]:
        changed = shown * spread(params.factor, shown)
        return changed.add_(spread(params.offset, shown))


class Brightness(_Linear):
    """Sections lit differently: times f or 1/f with probability p, and a constant added with probability p."""

    kind: Literal["brightness"] = "brightness"
    p: Probability = 0.5
    factor: Factors = (1.0, 2.0)
    offset: Levels = (0.0, 0.5)

    def draw(self, rng: np.random.Generator, sample: Sample) -> Line:
        shape = image_shape(sample)
        factor = np.where(happens(rng, self.p, shape), draw_factor(rng, self.factor, shape), 1)
        return Line(factor, rng.uniform(*self.offset, shape) * happens(rng, self.p, shape))


class Compress(_Linear):
    """Sections of low contrast: the range 0 to 1 is made 1 to 3 times narrower and put anywhere in itself."""

    kind: Literal["compress"] = "compress"
    p: Probability = 0.5
    factor: Factors = (1.0, 3.0)

    def draw(self, rng: np.random.Generator, sample: Sample) -> Line:
        shape = image_shape(sample)
        factor = 1 / np.where(happens(rng, self.p, shape), rng.uniform(*self.factor, shape), 1)
        return Line(factor, rng.uniform(0, 1, shape) * (1 - factor))


@dataclass(frozen=True)
class Curve:
    exponent: NDArray[np.float64]
    """``(b, c)``"""


class Gamma(ImagingAugment):
    """Sections developed differently: intensity to the power g or 1/g."""

    kind: Literal["gamma"] = "gamma"
    p: Probability = 0.5
    exponent: Factors = (1.0, 1.5)

    def draw(self, rng: np.random.Generator, sample: Sample) -> Curve:
        shape = image_shape(sample)
        return Curve(np.where(happens(rng, self.p, shape), draw_factor(rng, self.exponent, shape), 1))

    def change(self, shown: Float[Tensor, "b c *space"], params: Curve) -> Float[Tensor, "b c *space"]:
        if (params.exponent == 1).all():
            return shown
        return shown.abs().pow(spread(params.exponent, shown)).copysign(shown)


@dataclass(frozen=True)
class Nothing:
    """No chance involved."""


class Limit(ImagingAugment):
    """Scale sections that others have made brighter than 1 back to 1, so that the net is shown the range it will meet."""

    kind: Literal["limit"] = "limit"

    def draw(self, rng: np.random.Generator, sample: Sample) -> Nothing:
        return Nothing()

    def change(self, shown: Float[Tensor, "b c *space"], params: Nothing) -> Float[Tensor, "b c *space"]:
        brightest = shown.amax(tuple(range(2, shown.ndim)), keepdim=True)
        return shown / brightest.clamp_min(1)
