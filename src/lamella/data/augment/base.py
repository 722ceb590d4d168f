"""What every augmentation is: a config that draws, then applies.

``draw(rng, sample)`` holds all the chance and returns params; it looks at the sample's shapes, never at its voxels.
``apply(sample, params)`` gives the same output for the same params, on the sample's device, and leaves its input as it was.
Params are NumPy arrays, one entry per sample ``(b,)`` or per sample and section ``(b, s)``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Discriminator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.data.geometry import Geometry
from lamella.data.resample import move
from lamella.data.sample import SECTIONS, Sample

_Pair = TypeVar("_Pair", bound=tuple[float | int, float | int])


def _ordered(span: _Pair) -> _Pair:
    if span[0] > span[1]:
        raise ValueError(f"the low end comes first; give [{span[1]}, {span[0]}]")
    return span


Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""A range from which a number is drawn evenly: [low, high]."""

Levels = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], AfterValidator(_ordered)]
"""A range of numbers that are not negative."""

Factors = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]
"""A range of numbers above 0, by which something is multiplied or divided."""

Counts = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_ordered)]
"""A range of whole numbers from 1, both ends included."""

Probability = Annotated[float, Field(ge=0, le=1)]


class Uniform(Config):
    """Evenly between ``low`` and ``high``."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float

    @model_validator(mode="after")
    def _check(self) -> Uniform:
        _ordered((self.low, self.high))
        return self

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return rng.uniform(self.low, self.high, shape)


class Normal(Config):
    """Around ``mean`` with standard deviation ``std``."""

    kind: Literal["normal"] = "normal"
    mean: float
    std: float = Field(ge=0)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return rng.normal(self.mean, self.std, shape)


Chance = Annotated[Uniform | Normal, Discriminator("kind")]


class Augment(Config):
    """Base of all augmentations."""

    kind: str

    @abstractmethod
    def draw(self, rng: np.random.Generator, sample: Sample) -> Any:
        """All the chance, as a small frozen record."""

    @abstractmethod
    def apply(self, sample: Sample, params: Any) -> Sample:
        """What the record says, without chance."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draw and apply."""
        return self.apply(sample, self.draw(rng, sample))


class GeometricAugment(Augment):
    """Augmentations that only move voxels: their params are a ``Geometry``, and several in a row are resampled once."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry: ...

    def apply(self, sample: Sample, params: Geometry) -> Sample:
        return move(sample, params)


def num_sections(sample: Sample) -> int:
    """How many consecutive sections an align sample holds."""
    if SECTIONS not in sample:
        raise UserError(
            f"this augmentation treats sections one by one and needs a layer {SECTIONS!r}; the sample has {', '.join(sample)}"
        )
    return sample[SECTIONS].tensor.shape[1]


def need_plane(sample: Sample, kind: str) -> None:
    """Sections are flat; refuse volumes."""
    if sample.ndim != 2:
        raise UserError(f"augmentation {kind!r} works on sections (b, s, y, x); this sample is 3D, leave it out")


def happens(rng: np.random.Generator, p: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """True with probability ``p``."""
    return rng.random(shape) < p
