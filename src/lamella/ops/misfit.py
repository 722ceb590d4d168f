"""Where two sections that should fit would fit better elsewhere: a map that tells misaligned tissue from tissue that changed.

Local correlation is low where sections are misaligned, but also wherever tissue changes from one section to the next or has no
structure. So each place is also correlated with its surroundings in the other section. The **misfit** is the share of its variance
that moving it would explain beyond what it explains where it lies,

    misfit = best r² - r²,     r taken as 0 where it is negative,

from 0 (nothing to gain) to 1. Images are halved once, so shifts go in steps of 2 px. Images are (y, x), 0 where data is missing.

Laws: a section against itself gives 0; gain and offset change nothing; parts with ``context`` pixels around them equal parts of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

STEP = 8  # px of the images in one of the map
_HALF = 2
_EVEN = 16.0  # px, sigma of the surroundings by which contrast is made even
_TRUNCATE = 3.0
_LEAST = 0.2  # share of a place's surroundings that both sections hold; at a corner it is a quarter

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Misfit:
    """Maps (y, x) of one value for ``STEP`` × ``STEP`` pixels; NaN where too little is held by both.

    ``value`` is the misfit, ``here`` and ``best`` the correlations where the place lies and where it would fit best, ``shift``
    (2, y, x) leads from there to here's place in the other section, px.
    """

    value: Map
    here: Map
    best: Map
    shift: Map


def context(reach: int, window: int) -> int:
    """Pixels around a part that its map depends on, whole pixels of the map."""
    needed = 2 * _TRUNCATE * _EVEN + _TRUNCATE * window / 2 + reach + 2 * STEP
    return int(np.ceil(needed / STEP)) * STEP


def misfit(a: NDArray[Any], b: NDArray[Any], reach: int = 12, window: int = 64) -> Misfit:
    """The misfit of ``a`` and ``b``, of one shape that is whole steps, for shifts of up to ``reach`` px along y and x.

    Correlations are weighted by a Gaussian whose sigma is half a ``window``, px.
    """
    p, q = _even(a), _even(b)
    most = reach // _HALF
    around = [np.pad(x, most) for x in q]
    shape = tuple(n // STEP for n in a.shape)
    best, here = np.full(shape, -1, np.float32), np.zeros(shape, np.float32)
    shift = np.zeros((2, *shape), np.float32)
    for dy, dx in _shifts(most):
        cut = np.s_[most + dy : most + dy + p[0].shape[0], most + dx : most + dx + p[0].shape[1]]
        moved = around[0][cut], around[1][cut]
        r = _correlation(p, moved, window)
        if dy == dx == 0:
            here = r
        better = r > best
        best = np.where(better, r, best)
        shift[:, better] = np.array([[dy], [dx]]) * _HALF
    held = _pooled(p[1] * q[1])
    value = np.square(best) - np.square(np.maximum(here, 0))
    value = np.where(best > 0, np.clip(value, 0, 1), 0)
    known = (held >= 0.5) & (_spread(p[1] * q[1], window) >= _LEAST)
    value, here, best = (np.where(known, x, np.nan).astype(np.float32) for x in (value, here, best))
    return Misfit(value, here, best, np.where(known, shift, np.nan).astype(np.float32))


def _shifts(most: int) -> list[tuple[int, int]]:
    """All shifts of up to ``most``, the smallest first, so that of equal ones the smallest is found."""
    every = [(dy, dx) for dy in range(-most, most + 1) for dx in range(-most, most + 1)]
    return sorted(every, key=lambda s: (s[0] ** 2 + s[1] ** 2, s))


def _even(section: NDArray[Any]) -> tuple[Map, Map]:
    """A section halved, with its local mean taken away and its local spread made 1, and where it holds data (1); 0 elsewhere."""
    h, w = (n // _HALF for n in section.shape)
    cut = section.reshape(h, _HALF, w, _HALF).astype(np.float32)
    count = (cut != 0).sum((1, 3))
    present = (count == _HALF**2).astype(np.float32)
    image = cut.sum((1, 3)) / _HALF**2 * present
    share = np.maximum(_blurred(present), 1e-3)
    rest = (image - _blurred(image) / share) * present
    spread = np.sqrt(_blurred(rest * rest) / share)
    return np.divide(rest, spread, out=np.zeros_like(rest), where=spread > 1e-6 * np.abs(image).max(initial=0)), present


def _blurred(image: Map) -> Map:
    result: Map = ndi.gaussian_filter(image, _EVEN / _HALF, mode="constant", truncate=_TRUNCATE)
    return result


def _spread(image: Map, window: int) -> Map:
    """The mean over the map's pixels, weighted by the window."""
    result: Map = ndi.gaussian_filter(_pooled(image), window / 2 / STEP, mode="constant", truncate=_TRUNCATE)
    return result


def _pooled(image: Map) -> Map:
    n = STEP // _HALF
    h, w = (m // n for m in image.shape)
    result: Map = image.reshape(h, n, w, n).mean((1, 3))
    return result


def _correlation(p: tuple[Map, Map], q: tuple[Map, Map], window: int) -> Map:
    """Pearson's r on the map's grid of two even images, where both hold data."""
    both = _spread(p[0] * q[0], window)
    power = _spread(p[0] * p[0] * q[1], window) * _spread(q[0] * q[0] * p[1], window)
    result: Map = np.where(power > 1e-8, both / np.sqrt(np.maximum(power, 1e-8)), 0).clip(-1, 1)
    return result
