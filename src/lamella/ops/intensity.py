"""Intensities of images as nets see them: each channel shifted and scaled by its own statistics.

Here 0 is an intensity like any other, as in light microscopy; ``lamella.ops.normalise`` is for sections in which it means missing.
A config says which statistics, ``measure`` takes them from an image (or from a fair sample of one that is too large), and the
``Scaling`` that results does the same to any part of that image, in training and in inference. The laws:

- a scaling is linear per channel, so a crop of the scaled image is the scaled crop;
- ``percentile``, ``minmax`` and ``zscore`` give the same result for ``image`` and ``a * image + b`` with ``a > 0``;
- a channel of one value everywhere becomes 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Shaped
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lamella.core.config import Config
from lamella.core.errors import UserError

Image = Shaped[np.ndarray, "c *space"]


@dataclass(frozen=True)
class Scaling:
    """``(value - offset) * gain`` for each channel, then cut to ``limits`` if there are any."""

    offsets: tuple[float, ...]
    gains: tuple[float, ...]
    limits: tuple[float, float] | None = None

    def __call__(self, image: Image) -> Float32[np.ndarray, c * space]:
        """The image as float32, all channels at once.

        >>> Scaling((10.0,), (0.5,))(np.array([[10, 12]], np.uint8))
        array([[0., 1.]], dtype=float32)
        """
        if image.shape[0] != len(self.offsets):
            raise UserError(f"an image of {image.shape[0]} channels does not fit statistics of {len(self.offsets)}")
        values: NDArray[Any] = image.astype(np.float32 if image.dtype.itemsize <= 2 else np.float64)
        column = (slice(None), *[None] * (image.ndim - 1))
        offsets: NDArray[Any] = np.asarray(self.offsets, values.dtype)[column]
        gains: NDArray[Any] = np.asarray(self.gains, values.dtype)[column]
        result = ((values - offsets) * gains).astype(np.float32, copy=False)
        return result if self.limits is None else np.clip(result, *self.limits)

    def repeated(self, times: int) -> Scaling:
        """For images whose every channel stands ``times`` times in turn, as neighbouring sections do."""
        return Scaling(_repeat(self.offsets, times), _repeat(self.gains, times), self.limits)


def _repeat(values: Sequence[float], times: int) -> tuple[float, ...]:
    return tuple(v for v in values for _ in range(times))


class Percentile(Config):
    """Two percentiles of a channel to 0 and 1; few bright specks change nothing."""

    kind: Literal["percentile"] = "percentile"
    low: float = Field(1.0, ge=0, lt=100)
    high: float = Field(99.8, gt=0, le=100)
    clip: bool = Field(False, description="cut what lies beyond 0 and 1; otherwise bright specks stay brighter")

    @model_validator(mode="after")
    def _check(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self

    def measure(self, image: Image) -> Scaling:
        """The scaling by the percentiles of ``image``."""
        values = _checked(image)
        ends = np.percentile(values, (self.low, self.high), axis=1)
        return _between(ends[0], ends[1], (0.0, 1.0) if self.clip else None)


class MinMax(Config):
    """The darkest and the brightest voxel of a channel to 0 and 1."""

    kind: Literal["minmax"] = "minmax"

    def measure(self, image: Image) -> Scaling:
        """The scaling by the extremes of ``image``."""
        values = _checked(image)
        return _between(values.min(1), values.max(1), None)


class ZScore(Config):
    """Mean of a channel to 0, standard deviation to 1."""

    kind: Literal["zscore"] = "zscore"

    def measure(self, image: Image) -> Scaling:
        """The scaling by the moments of ``image``."""
        values = _checked(image)
        mean, std = values.mean(1, dtype=np.float64), values.std(1, dtype=np.float64)
        return _between(mean, mean + std, None)


class Range(Config):
    """Given intensities to 0 and 1: for images whose grey levels are comparable, such as counts or calibrated densities."""

    kind: Literal["range"] = "range"
    low: tuple[float, ...] = Field((0.0,), min_length=1, description="intensity that becomes 0, one or one per channel")
    high: tuple[float, ...] = Field(min_length=1, description="intensity that becomes 1, one or one per channel")
    clip: bool = Field(False, description="cut what lies beyond 0 and 1")

    @model_validator(mode="after")
    def _check(self) -> Range:
        if len(self.low) != len(self.high) and 1 not in (len(self.low), len(self.high)):
            raise ValueError(f"low has {len(self.low)} numbers and high {len(self.high)}; give one for each channel")
        if any(a >= b for a, b in zip(*np.broadcast_arrays(self.low, self.high), strict=True)):
            raise ValueError(f"low {list(self.low)} must be below high {list(self.high)}")
        return self

    def measure(self, image: Image) -> Scaling:
        """The scaling as given; only the number of channels is taken from ``image``."""
        num, given = _checked(image).shape[0], max(len(self.low), len(self.high))
        if given not in (1, num):
            raise UserError(
                f"normaliser kind 'range' has {given} numbers, the images have {num} channels; give one for each"
            )
        low, high = (np.broadcast_to(np.asarray(v, np.float64), num) for v in (self.low, self.high))
        return _between(low, high, (0.0, 1.0) if self.clip else None)


class Factor(Config):
    """Every intensity times one number, as data sets that were scaled once are used: 1 / 255 for 8 bits."""

    kind: Literal["factor"] = "factor"
    factor: float = Field(gt=0, description="what brings all intensities to about 0 to 1")

    def measure(self, image: Image) -> Scaling:
        """The scaling as given; only the number of channels is taken from ``image``."""
        num = _checked(image).shape[0]
        return Scaling((0.0,) * num, (self.factor,) * num)


IntensityConfig = Annotated[Percentile | MinMax | ZScore | Range | Factor, Field(discriminator="kind")]


def _checked(image: Image) -> NDArray[Any]:
    """The voxels of each channel in a row, after a check that they can be measured."""
    if image.dtype.kind not in "buif" or image.size == 0:
        raise UserError(f"images must hold integers or floats, not {image.dtype} in the shape {image.shape}")
    values = image.reshape(image.shape[0], -1)
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError("the image holds NaN or infinity; replace them by numbers, for example by 0")
    return values


def _between(low: NDArray[Any], high: NDArray[Any], limits: tuple[float, float] | None) -> Scaling:
    """``low`` to 0 and ``high`` to 1; a channel in which they are one has gain 0."""
    width = np.asarray(high, np.float64) - np.asarray(low, np.float64)
    gains = np.divide(1.0, width, out=np.zeros_like(width), where=width > 0)
    return Scaling(tuple(np.asarray(low, np.float64).tolist()), tuple(gains.tolist()), limits)
