"""Structural similarity of two images as maps, of which blocks give the same values as the whole.

```
SSIM      (Wang et al. 2004)  means and variances in a square window, equal weights, sample covariance: as scikit-image by default
MS-SSIM   (Wang et al. 2003)  Gaussian windows (sigma 1.5, 11 wide) on five scales, each the mean of 2 x 2 of the one before
```

A value of a map depends on the voxels within half a window of it. Those nearer to the edge of the image than that are not counted,
so nothing that lies outside is ever made up. Arrays are (z, y, x); ``axes`` are those that a window spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lamella.core.box import Box

Array = NDArray[np.float64]

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""How much each scale counts, from the finest (Wang et al. 2003)."""
MS_PAD = 5  # voxels of a scale on either side of a Gaussian window's middle
MS_STEP = 2 ** (len(SCALE_WEIGHTS) - 1)  # voxels of the finest scale along a voxel of the coarsest
MS_SMALLEST = (2 * MS_PAD + 1) * MS_STEP
"""Least length of an axis for five scales."""

_K1, _K2 = 0.01, 0.03
_TAPS = np.exp(-0.5 * (np.arange(-MS_PAD, MS_PAD + 1) / 1.5) ** 2)
_TAPS /= _TAPS.sum()


@dataclass(frozen=True)
class Patch:
    """Two arrays of the voxels ``read``, of which those of ``write`` are to be counted, in an image of the box ``whole``."""

    predicted: Array
    true: Array
    read: Box
    write: Box
    whole: Box

    def counted(self, pad: Sequence[int]) -> Box:
        """The voxels of ``write`` that are at least ``pad`` away from the edges of the image."""
        return self.write.intersect(self.whole.grow([-p for p in pad]))


def ssim_map(predicted: Array, true: Array, sizes: Sequence[int], data_range: float) -> Array:
    """SSIM at each voxel, in windows of ``sizes`` voxels (odd, 1 along axes that are not compared).

    >>> image = np.arange(49.0).reshape(7, 7)
    >>> float(ssim_map(image, image, (7, 7), 48.0)[3, 3])
    1.0
    """
    count = float(np.prod(sizes))
    means = [ndimage.uniform_filter(a, sizes) for a in (predicted, true)]
    sample = count / (count - 1)
    products = [ndimage.uniform_filter(a * b, sizes) for a, b in _pairs(predicted, true)]
    covariances = [sample * (ab - a * b) for ab, (a, b) in zip(products, _pairs(*means), strict=True)]
    luminance, structure = _terms(means, covariances, data_range)
    return luminance * structure


def scales(patch: Patch, axes: Sequence[int], data_range: float) -> Iterator[tuple[Array, Box]]:
    """For each of the five scales the map that MS-SSIM averages there, and the box, in voxels of that scale, to be counted.

    That is contrast and structure, with luminance on the coarsest scale. ``patch.read`` and ``patch.write`` start at multiples of
    ``MS_STEP`` from the start of the image along ``axes``. The map is that of ``read``.
    """
    p, t = patch.predicted, patch.true
    pad = [MS_PAD if a in axes else 0 for a in range(3)]
    for level in range(len(SCALE_WEIGHTS)):
        means = [_gaussian(a, axes) for a in (p, t)]
        products = [_gaussian(a * b, axes) for a, b in _pairs(p, t)]
        covariances = [ab - a * b for ab, (a, b) in zip(products, _pairs(*means), strict=True)]
        luminance, structure = _terms(means, covariances, data_range)
        last = level == len(SCALE_WEIGHTS) - 1
        factor = [2**level if a in axes else 1 for a in range(3)]
        yield (luminance * structure if last else structure), _counted_at(patch, factor, pad)
        if not last:
            p, t = halved(p, axes), halved(t, axes)


def _counted_at(patch: Patch, factor: Sequence[int], pad: Sequence[int]) -> Box:
    """What of a coarser patch is to be counted, from the patch's first voxel; an odd last voxel has none that is coarser."""
    origin = [-n for n in patch.whole.start]
    read, write, whole = (_floored(box.shift(origin), factor) for box in (patch.read, patch.write, patch.whole))
    inner = Box(tuple(pad), tuple(max(n - p, p) for n, p in zip(whole.stop, pad, strict=True)))
    return write.intersect(inner).shift([-n for n in read.start])


def _floored(box: Box, factor: Sequence[int]) -> Box:
    return Box(*(tuple(n // f for n, f in zip(ends, factor, strict=True)) for ends in (box.start, box.stop)))


def halved(array: Array, axes: Sequence[int]) -> Array:
    """The mean of every two voxels along ``axes``; an odd last one is left out."""
    for axis in axes:
        n = array.shape[axis] // 2 * 2
        even = array.take(range(0, n, 2), axis)
        array = (even + array.take(range(1, n, 2), axis)) / 2
    return array


def _pairs(a: Array, b: Array) -> tuple[tuple[Array, Array], ...]:
    return (a, a), (b, b), (a, b)


def _terms(means: Sequence[Array], covariances: Sequence[Array], data_range: float) -> tuple[Array, Array]:
    """Luminance, and contrast times structure."""
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    (mp, mt), (vp, vt, cov) = means, covariances
    return (2 * mp * mt + c1) / (mp**2 + mt**2 + c1), (2 * cov + c2) / (vp + vt + c2)


def _gaussian(array: Array, axes: Sequence[int]) -> Array:
    for axis in axes:
        array = ndimage.correlate1d(array, _TAPS, axis, mode="reflect")
    return array
