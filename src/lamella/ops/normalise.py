"""Normalisers: one section of any integer or float type becomes float32 in [0, 1].

Sections are ``(y, x)`` arrays in which 0 means missing. The same object serves training and inference. The laws:

- a result is exactly 0 where the section is 0, and at least ``FLOOR`` where there is tissue, however dark;
- missing voxels have no influence on the others;
- a section without tissue stays 0 everywhere, and a constant one gets a constant grey;
- ``context(dtype)`` is the number of pixels around a tile that the tile's result depends on: a tile read with that context,
  normalised and trimmed equals the same place of the normalised whole. Beyond the edge of the section the tile may be cut off
  or filled with 0. None means that the result depends on the whole section; give the statistics in the config (``range``,
  ``mean`` and ``std``) to normalise tile by tile, as for a volume whose sections do not fit in memory, or take them from the
  section with ``measured``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from pydantic import Field, model_validator
from skimage.filters import rank
from skimage.morphology import disk

from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.ops.running import running_mean

FLOOR = 1 / 255  # the darkest that tissue becomes, one step of uint8 above missing
Range = tuple[float, float]
Section = NDArray[Any]
Grey = NDArray[np.float32]


@runtime_checkable
class Normaliser(Protocol):
    """What a normaliser's config builds; instances are picklable and hold no state."""

    def context(self, dtype: DTypeLike) -> int | None:
        """Pixels around a tile that its result depends on, for sections of ``dtype``; None for the whole section."""
        ...

    def measured(self, section: Section) -> Normaliser:
        """The normaliser with the statistics of ``section``: its tiles then become what they are in the whole."""
        ...

    def __call__(self, section: Section) -> Grey:
        """The section (y, x) as float32 in [0, 1], 0 exactly where it is missing."""
        ...


class Rank(Config):
    """Local rank histogram equalisation: a voxel becomes the share of tissue within ``radius`` that is no brighter.

    It removes any change of brightness or contrast that is wider than the disk, keeps the order of intensities within it, and
    is blind to monotone changes of the whole section. As in SEAMLeSS, but without its last stretch to the section's minimum
    and maximum, which would tie every tile to the whole section and changes ranks by less than a hundredth.
    """

    kind: Literal["rank"] = "rank"
    radius: int | None = Field(None, ge=1)
    """Radius of the disk in pixels; None: ``256 // (mip + 1)``."""
    range: Range | None = None
    """Intensities between which 255 levels are counted; None: those of uint8 as they are, else the section's extremes."""

    @model_validator(mode="after")
    def _check(self) -> Rank:
        _check_range(self.range)
        return self

    def build(self, mip: int | None = None) -> RankNormaliser:
        """The normaliser for sections of ``mip``, which matters only if ``radius`` is None."""
        if self.radius is None and mip is None:
            raise UserError(
                "normaliser kind 'rank' without a radius needs the mip of the sections; set normaliser.radius"
            )
        return RankNormaliser(self.radius or max(256 // ((mip or 0) + 1), 1), self.range)


class MinMax(Config):
    """Linear from the darkest to the brightest tissue."""

    kind: Literal["minmax"] = "minmax"
    range: Range | None = None
    """Intensities that become 0 and 1; None: the section's extremes."""

    @model_validator(mode="after")
    def _check(self) -> MinMax:
        _check_range(self.range)
        return self

    def build(self, mip: int | None = None) -> LinearNormaliser:
        """The normaliser, the same at every mip."""
        return LinearNormaliser(0.0, 100.0, self.range)


class Percentile(Config):
    """Linear between two percentiles of the section's tissue, clipped outside; a few bright specks change nothing."""

    kind: Literal["percentile"] = "percentile"
    low: float = Field(1.0, ge=0, lt=100)
    high: float = Field(99.0, gt=0, le=100)

    @model_validator(mode="after")
    def _check(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self

    def build(self, mip: int | None = None) -> LinearNormaliser:
        """The normaliser, the same at every mip."""
        return LinearNormaliser(self.low, self.high, None)


class ZScore(Config):
    """Mean of the tissue to 0.5, ``span`` standard deviations below and above it to 0 and 1."""

    kind: Literal["zscore"] = "zscore"
    span: float = Field(3.0, gt=0)
    mean: float | None = None
    """Mean intensity of tissue; None: the section's own. Give both or neither."""
    std: float | None = Field(None, gt=0)
    """Standard deviation of tissue; None: the section's own."""

    @model_validator(mode="after")
    def _check(self) -> ZScore:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together; give both, or neither to measure each section")
        return self

    def build(self, mip: int | None = None) -> ZScoreNormaliser:
        """The normaliser, the same at every mip."""
        return ZScoreNormaliser(self.span, self.mean, self.std)


class Local(Config):
    """Like ``zscore``, with mean and standard deviation of a window around each voxel.

    The window is what three averages over squares make, one after the other, which is a Gaussian to the eye (Wells 1986).
    """

    kind: Literal["local"] = "local"
    sigma: float = Field(32.0, ge=1)
    """Standard deviation of the window in pixels, to within half a pixel."""
    span: float = Field(3.0, gt=0)
    min_std: float = Field(1e-3, gt=0)
    """Added in quadrature to the local standard deviation, so that empty resin is not stretched into noise; as a fraction of
    the range of an integer type, in the section's own units for floats."""

    def build(self, mip: int | None = None) -> LocalNormaliser:
        """The normaliser, the same at every mip."""
        return LocalNormaliser(self.sigma, self.span, self.min_std)


class Plain(Config):
    """No statistics: integers divided by the largest of their type, floats in [0, 1] as they are."""

    kind: Literal["none"] = "none"

    def build(self, mip: int | None = None) -> PlainNormaliser:
        """The normaliser, the same at every mip."""
        return PlainNormaliser()


NormaliserConfig = Annotated[Rank | MinMax | Percentile | ZScore | Local | Plain, Field(discriminator="kind")]


@dataclass(frozen=True)
class RankNormaliser:
    """See ``Rank``. Takes about 0.4, 0.6 and 1.8 seconds per megapixel for radius 42, 85 and 256."""

    radius: int
    range: Range | None = None

    def context(self, dtype: DTypeLike) -> int | None:
        return self.radius if self.range is not None or np.dtype(dtype) == np.uint8 else None

    def measured(self, section: Section) -> RankNormaliser:
        values = section[_tissue(section)]
        if self.context(section.dtype) is not None or not values.size:
            return self
        return replace(self, range=_extremes(values))

    def __call__(self, section: Section) -> Grey:
        tissue = _tissue(section)
        if not tissue.any():
            return np.zeros(section.shape, np.float32)
        levels = rank.equalize(self._levels(section, tissue), disk(self.radius), mask=tissue.view(np.uint8))
        return _finish(levels / np.float32(255), tissue)

    def _levels(self, section: Section, tissue: NDArray[np.bool_]) -> NDArray[np.uint8]:
        if section.dtype == np.uint8 and self.range is None:
            return np.ascontiguousarray(section)
        low, high = self.range or _extremes(section[tissue])
        return np.rint(_linear(section, low, high) * 254 + 1).astype(np.uint8)


@dataclass(frozen=True)
class LinearNormaliser:
    """See ``MinMax`` and ``Percentile``; ``range`` has precedence over the percentiles ``low`` and ``high``."""

    low: float
    high: float
    range: Range | None = None

    def context(self, dtype: DTypeLike) -> int | None:
        return None if self.range is None else 0

    def measured(self, section: Section) -> LinearNormaliser:
        values = section[_tissue(section)]
        return self if self.range is not None or not values.size else replace(self, range=self._measure(values))

    def __call__(self, section: Section) -> Grey:
        tissue = _tissue(section)
        if not tissue.any():
            return np.zeros(section.shape, np.float32)
        low, high = self.range or self._measure(section[tissue])
        return _finish(_linear(section, low, high), tissue)

    def _measure(self, values: NDArray[Any]) -> Range:
        low, high = np.percentile(values, (self.low, self.high))
        return float(low), float(high)


@dataclass(frozen=True)
class ZScoreNormaliser:
    """See ``ZScore``."""

    span: float
    mean: float | None = None
    std: float | None = None

    def context(self, dtype: DTypeLike) -> int | None:
        return None if self.mean is None else 0

    def measured(self, section: Section) -> ZScoreNormaliser:
        values = section[_tissue(section)]
        if self.mean is not None or not values.size:
            return self
        mean, std = _moments(values)
        return replace(self, mean=mean, std=std)

    def __call__(self, section: Section) -> Grey:
        tissue = _tissue(section)
        if not tissue.any():
            return np.zeros(section.shape, np.float32)
        mean, std = self.mean, self.std
        if mean is None or std is None:
            mean, std = _moments(section[tissue])
        return _finish(_linear(section, mean - self.span * std, mean + self.span * std), tissue)


@dataclass(frozen=True)
class LocalNormaliser:
    """See ``Local``. Missing voxels have weight 0 in the window. Takes about 0.2 CPU-seconds per megapixel, whatever the window."""

    sigma: float
    span: float
    min_std: float

    def context(self, dtype: DTypeLike) -> int | None:
        return sum(side // 2 for side in _sides(self.sigma))

    def measured(self, section: Section) -> LocalNormaliser:
        return self

    def __call__(self, section: Section) -> Grey:
        tissue = _tissue(section)
        exact = np.float32 if section.dtype == np.uint8 else np.float64
        middle = 0.5 if section.dtype.kind in "ui" else 0.0  # of numbers about 0, squares lose least
        unit = _largest(section.dtype) if section.dtype.kind in "ui" else 1.0
        values = np.where(tissue, (section / exact(unit) - exact(middle)), 0)
        weight, mean, square = self._means(np.stack([tissue.astype(exact), values, values * values]))
        weight = np.where(tissue, weight, 1)
        mean /= weight
        variance = np.maximum(square / weight - mean * mean, 0)
        grey = 0.5 + (values - mean) / np.sqrt(variance + self.min_std**2) / (2 * self.span)
        return _finish(grey, tissue)

    def _means(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Means of maps (c, y, x) over the window, 0 beyond their edges; no value depends on where a tile begins."""
        reach = self.context(maps.dtype)
        assert reach is not None
        means = torch.from_numpy(np.pad(maps, ((0, 0), (reach, reach), (reach, reach))))[None]
        for side in _sides(self.sigma):
            means = running_mean(means, (side, side))
        return means[0].numpy()


@dataclass(frozen=True)
class PlainNormaliser:
    """See ``Plain``."""

    def context(self, dtype: DTypeLike) -> int | None:
        return 0

    def measured(self, section: Section) -> PlainNormaliser:
        return self

    def __call__(self, section: Section) -> Grey:
        tissue = _tissue(section)
        low, high = (float(section.min()), float(section.max())) if section.size else (0.0, 0.0)
        top = _largest(section.dtype) if section.dtype.kind in "ui" else 1.0
        if low < 0 or high > top:
            raise UserError(
                f"normaliser kind 'none' needs intensities from 0 to {top:g}, but these run from {low:g} to {high:g}; "
                "choose another kind, for example 'minmax' with a range"
            )
        return np.where(tissue, np.maximum(section / top, FLOOR), 0).astype(np.float32)


def _tissue(section: Section) -> NDArray[np.bool_]:
    """Where the section is not missing, after checking that it is one that can be normalised."""
    if section.ndim != 2 or section.dtype.kind not in "uif":
        raise UserError(
            f"a normaliser takes one section (y, x) of integers or floats, not shape {section.shape} of {section.dtype}"
        )
    if section.dtype.kind == "f" and not np.isfinite(section).all():
        raise UserError("a section holds NaN or infinity; mark missing data with 0 and keep intensities finite")
    return section != 0


def _finish(grey: NDArray[Any], tissue: NDArray[np.bool_]) -> Grey:
    return np.where(tissue, np.clip(grey, FLOOR, 1), 0).astype(np.float32)


def _sides(sigma: float) -> tuple[int, int, int]:
    """Odd sides of three squares, averages over which have together the variance of a Gaussian, as nearly as can be."""
    narrow = (int(math.sqrt(4 * sigma**2 + 1)) - 1) // 2 * 2 + 1
    wide = min(range(4), key=lambda n: abs(((3 - n) * narrow**2 + n * (narrow + 2) ** 2 - 3) / 12 - sigma**2))
    return tuple(narrow + 2 * (i < wide) for i in range(3))  # type: ignore[return-value]


def _linear(section: Section, low: float, high: float) -> NDArray[np.float64]:
    """``low`` to 0 and ``high`` to 1, clipped outside; 0.5 everywhere if the two are one."""
    if high <= low:
        return np.full(section.shape, 0.5)
    return np.clip((section.astype(np.float64) - low) / (high - low), 0, 1)


def _extremes(values: NDArray[Any]) -> Range:
    return float(values.min()), float(values.max())


def _moments(values: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation."""
    exact = values.astype(np.float64)
    return float(exact.mean()), float(exact.std())


def _largest(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max)


def _check_range(values: Range | None) -> None:
    if values is not None and values[0] >= values[1]:
        raise ValueError(f"range {list(values)} must run from low to high")
