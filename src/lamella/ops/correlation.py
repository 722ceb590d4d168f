"""Pearson correlation of two images, chunk by chunk: how well neighbouring sections fit.

Images are (y, x) or have leading axes (..., y, x) that are kept. Chunks are squares that do not overlap, laid from the upper left
corner inside a border; what is left over at the lower right is not used. A chunk with more than ``max_missing`` of its pixels
missing gives NaN, so that a crack or a blackout does not count for or against the alignment (4 % as in the published figures,
arXiv 1904.02643). A chunk without contrast in one of the images gives 0: nothing there fits.

Correlation alone rewards inventing motion. Quote it with its null, the same figure against an unrelated section.

Laws: ``r(a, a) == 1``; ``r(a, b) == r(b, a)``; gain and offset of either image change nothing; values lie in -1 to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.errors import UserError

MAX_MISSING = 0.04
# Below this standard deviation, relative to the largest value of the images, rounding decides the correlation.
_FLAT = 1e-5


def chunked_pearson(
    a: NDArray[Any],
    b: NDArray[Any],
    chunk: int,
    valid: NDArray[np.bool_] | None = None,
    border: int = 0,
    max_missing: float = MAX_MISSING,
) -> NDArray[np.float64]:
    """Pearson correlation of each chunk of ``a`` with the same chunk of ``b``.

    Both are (..., y, x); ``valid`` (same shape) is false where a pixel is missing in either, and such pixels count in no sum.
    The result is (..., chunks along y, chunks along x), NaN where more than ``max_missing`` of a chunk is missing, 0 where a
    chunk has no contrast, and empty if no chunk fits.

    >>> a = np.arange(16.0).reshape(4, 4)
    >>> chunked_pearson(a, -a, 2).tolist()
    [[-1.0, -1.0], [-1.0, -1.0]]
    """
    _check(a, b, valid, chunk)
    weight = np.ones(a.shape, bool) if valid is None else valid
    p, q, w = (_tiles(v, chunk, border) for v in (a, b, weight))
    count = w.sum(axis=-1)
    scale = np.maximum(np.abs(p).max(axis=-1, initial=0), np.abs(q).max(axis=-1, initial=0))
    p, q = _centre(p, w, count), _centre(q, w, count)
    power_p, power_q = (np.sqrt((v * v).sum(axis=-1)) for v in (p, q))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (p * q).sum(axis=-1) / (power_p * power_q)
    flat = np.minimum(power_p, power_q) <= _FLAT * scale * np.sqrt(count)
    r = np.where(flat, 0.0, np.clip(r, -1, 1))
    return np.where(count >= (1 - max_missing) * chunk * chunk, r, np.nan)


def chunk_origins(size: int, chunk: int, border: int = 0) -> NDArray[np.intp]:
    """First pixel of every chunk along an axis of ``size`` pixels.

    >>> chunk_origins(10, 3, border=1).tolist()
    [1, 4]
    """
    return border + chunk * np.arange(max(size - 2 * border, 0) // chunk)


def _check(a: NDArray[Any], b: NDArray[Any], valid: NDArray[np.bool_] | None, chunk: int) -> None:
    if a.shape != b.shape or (valid is not None and valid.shape != a.shape) or a.ndim < 2:
        shapes = [v.shape for v in (a, b, valid) if v is not None]
        raise UserError(f"images to correlate have shapes {shapes}; give images (..., y, x) of one shape")
    if chunk < 2:
        raise UserError(f"chunk size {chunk} holds no correlation; give 2 pixels or more")


def _tiles(image: NDArray[Any], chunk: int, border: int) -> NDArray[Any]:
    """(..., y, x) as (..., chunk rows, chunk columns, chunk * chunk); bool stays bool, all else becomes float64."""
    rows, columns = (max(n - 2 * border, 0) // chunk for n in image.shape[-2:])
    cut = image[..., border : border + rows * chunk, border : border + columns * chunk]
    split = cut.reshape(*image.shape[:-2], rows, chunk, columns, chunk).swapaxes(-3, -2)
    tiles = split.reshape(*image.shape[:-2], rows, columns, chunk * chunk)
    return tiles if tiles.dtype == bool else tiles.astype(np.float64)


def _centre(tiles: NDArray[np.float64], w: NDArray[np.bool_], count: NDArray[Any]) -> NDArray[np.float64]:
    """Valid pixels minus their chunk's mean, zero elsewhere."""
    mean = np.where(w, tiles, 0).sum(axis=-1) / np.maximum(count, 1)
    return np.where(w, tiles - mean[..., None], 0)
