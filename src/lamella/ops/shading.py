"""Shading: how unevenly a microscope lights and sees its field of view, estimated from the images themselves.

An image is taken as ``offset + shading * specimen``, with a smooth shading of mean 1 that all images of a channel share; dividing
by it gives the image as it would be under even light. Two estimates of it:

- ``polynomial_shading``: the mean over many images, medians of its blocks, and a least-squares polynomial through those. The mean
  evens out the specimens; it takes many, and a few very bright ones leave their mark.
- ``low_rank_shading``: block medians of each image, all of which are one profile times a brightness of their own, up to what
  objects change. Profile and brightness are found by turns as quartiles of ratios (Tukey's median polish, *Exploratory Data
  Analysis* 1977, here in products and with the lower quartile, since objects are mostly brighter than what is around them), which
  bright objects in less than three quarters of the images do not move; then a polynomial of higher order, fitted with weights that
  fall off with the error (Tukey's biweight). The model is that of BaSiC (Peng et al., *Nature Communications* 2017,
  doi:10.1038/ncomms14836) without its dark field: give ``offset`` for the camera's reading without light.

Images are (y, x). Both find slow change across the field only, not dust or stripes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray

from lamella.core.config import Config
from lamella.core.errors import UserError

Medians = NDArray[np.floating]

_QUANTILE = 0.25  # on synthetic cells that cover half of the field, a third of the error that the median leaves
_ROUNDS = 50  # of the polish; it settles in about ten
_SETTLED = 1e-5
_DARK = 1e-3  # images this much darker than the brightest say nothing but noise


class Shading(Config):
    """A smooth field over images of ``shape`` (y, x): ``coefficients[i][j]`` of the Legendre polynomials P_i(y) P_j(x).

    Both run from -1 to 1 over the image. Mean 1, positive everywhere.
    """

    shape: tuple[int, int]
    coefficients: tuple[tuple[float, ...], ...]
    offset: float = 0.0
    """Intensity without light, which the shading does not scale."""

    def field(self, start: Sequence[int] = (0, 0), shape: Sequence[int] | None = None) -> NDArray[np.float32]:
        """The field in a tile (y, x) of the image, by default in all of it."""
        size = self.shape if shape is None else shape
        y, x = (
            legvander((2 * np.arange(a, a + n) + 1) / whole - 1, len(c) - 1)
            for a, n, whole, c in zip(start, size, self.shape, (self.coefficients, self.coefficients[0]), strict=True)
        )
        return (y @ np.asarray(self.coefficients) @ x.T).astype(np.float32)

    def correct(self, image: NDArray[Any], start: Sequence[int] = (0, 0)) -> NDArray[np.float32]:
        """A tile (..., y, x) that begins at ``start``, as it would be under even light."""
        offset = np.float32(self.offset)
        return (image.astype(np.float32) - offset) / self.field(start, image.shape[-2:]) + offset


def block_medians(image: NDArray[Any], block: int) -> Medians:
    """The median of each block of ``block`` x ``block`` pixels; those at the lower and right edge may be smaller.

    >>> block_medians(np.arange(12).reshape(2, 6), 4).tolist()
    [[4.5, 7.5]]
    """
    return np.stack([_strip_medians(image[y : y + block], block) for y in range(0, image.shape[0], block)])


def _strip_medians(strip: NDArray[Any], block: int) -> Medians:
    height, width = strip.shape
    full = width // block * block
    cells = strip[:, :full].reshape(height, -1, block).swapaxes(0, 1).reshape(full // block, height * block)
    medians = np.median(cells, axis=1) if full else np.empty(0)
    return medians if full == width else np.append(medians, np.median(strip[:, full:]))


def polynomial_shading(mean: NDArray[Any], block: int = 32, order: int = 2, offset: float = 0.0) -> Shading:
    """The shading of a channel from the mean of its images: (order + 1)^2 coefficients through the medians of blocks."""
    shape = (mean.shape[0], mean.shape[1])
    medians = block_medians(mean, block) - offset
    return _fitted(medians, shape, block, order, offset)


def low_rank_shading(
    medians: Medians, shape: tuple[int, int], block: int = 16, order: int = 4, offset: float = 0.0
) -> Shading:
    """The shading of a channel from ``block_medians`` (image, y, x) of at least three of its images of ``shape``."""
    if len(medians) < 3:
        raise UserError(
            f"a low-rank shading needs at least 3 images, there are {len(medians)}; take more, or the polynomial"
        )
    profile = _polished(medians - offset)
    shading = _fitted(profile, shape, block, order, offset)
    for _ in range(10):
        error = profile / _at_blocks(shading, profile.shape, block)
        error -= np.median(error)
        spread = 6 * np.median(np.abs(error)) + 1e-12
        weights = np.clip(1 - (error / spread) ** 2, 0, 1) ** 2
        shading = _fitted(profile, shape, block, order, offset, weights)
    return shading


def _polished(images: Medians) -> Medians:
    """The profile that all images (image, y, x) share, each times a level of its own."""
    levels = np.quantile(images, _QUANTILE, axis=(1, 2))
    images = images[levels > _DARK * levels.max()]
    if len(images) < 3 or levels.max() <= 0:
        raise UserError("most images are dark: there is no light to estimate a shading from; check the offset")
    levels = np.quantile(images, _QUANTILE, axis=(1, 2), keepdims=True)
    profile = np.quantile(images / levels, _QUANTILE, axis=0)
    for _ in range(_ROUNDS):
        if profile.min() <= 0:
            raise UserError("parts of most images are dark: there is no light to estimate a shading from")
        levels = np.quantile(images / profile, _QUANTILE, axis=(1, 2), keepdims=True)
        better = np.quantile(images / levels, _QUANTILE, axis=0)
        better /= better.mean()
        if np.abs(better - profile).max() < _SETTLED:
            break
        profile = better
    return profile


def _fitted(
    values: Medians, shape: tuple[int, int], block: int, order: int, offset: float, weights: Medians | None = None
) -> Shading:
    """Least squares through the blocks, divided by the mean of the field."""
    check_blocks(shape, block, order)
    y, x = _centres(shape, block)
    design = np.einsum("yi,xj->yxij", legvander(y, order), legvander(x, order)).reshape(values.size, -1)
    scale = np.ones(values.size) if weights is None else np.sqrt(weights.ravel())
    found, *_ = np.linalg.lstsq(design * scale[:, None], values.ravel() * scale, rcond=None)
    return _normalised(found.reshape(order + 1, order + 1), shape, offset)


def check_blocks(shape: tuple[int, int], block: int, order: int) -> None:
    """Refuse images with too few blocks for a polynomial of this order."""
    rows, columns = (-(-n // block) for n in shape)
    if min(rows, columns) <= order:
        raise UserError(
            f"images of {shape[0]} by {shape[1]} px have {rows} by {columns} blocks of {block} px; a polynomial of order {order} "
            f"needs {order + 1} by {order + 1}: choose a smaller block"
        )


def _normalised(coefficients: NDArray[np.float64], shape: tuple[int, int], offset: float) -> Shading:
    raw = Shading(shape=shape, coefficients=tuple(map(tuple, coefficients.tolist())), offset=offset)
    field = raw.field().astype(np.float64)
    mean = float(field.mean())
    if not np.isfinite(field).all() or mean <= 0 or field.min() <= 0:
        raise UserError(
            f"the fitted shading runs from {field.min():.4g} to {field.max():.4g}, but light is above 0 everywhere; take more "
            "images, a lower order or a smaller offset"
        )
    return raw.model_copy(update={"coefficients": tuple(map(tuple, (coefficients / mean).tolist()))})


def _at_blocks(shading: Shading, grid: tuple[int, ...], block: int) -> Medians:
    y, x = _centres(shading.shape, block)
    order = len(shading.coefficients) - 1
    return legvander(y, order) @ np.asarray(shading.coefficients) @ legvander(x, order).T


def _centres(shape: tuple[int, int], block: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the middle of each block lies, from -1 to 1 over the image."""
    starts = [np.arange(0, n, block) for n in shape]
    y, x = ((a + np.minimum(a + block, n)) / n - 1 for a, n in zip(starts, shape, strict=True))
    return y, x


def residual(estimate: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Root mean square of what is left of a known shading after dividing by an estimate of it, both scaled to mean 1."""
    ratio = truth / estimate
    return float(np.std(ratio / ratio.mean()))
