"""Smooth random images, the ingredient of synthetic specimens. Images are (y, x) or (z, y, x) float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], scale: float | Sequence[float]) -> NDArray[np.float32]:
    """Gaussian-filtered white noise of zero mean and unit variance; ``scale`` is the filter's sigma in pixels, per axis.

    Wide filters are applied on a coarser grid and enlarged, which looks the same and costs little.
    """
    sigma = np.broadcast_to(np.asarray(scale, float), (len(shape),))
    step = np.maximum(1, np.floor(sigma / 2)).astype(int)
    coarse = [-(-n // s) + 3 for n, s in zip(shape, step, strict=True)]
    # Filtering white noise of sigma s leaves variance 1 / (2 sqrt(pi) s) per axis, so no measured rescaling is needed.
    gain = np.float32(np.prod([np.sqrt(2 * np.sqrt(np.pi) * s) for s in sigma / step if s > 0.3]))
    noise = ndi.gaussian_filter(rng.standard_normal(coarse).astype(np.float32), sigma / step, mode="wrap") * gain
    if (step > 1).any():
        noise = _enlarge(noise, step)
    return np.ascontiguousarray(noise[tuple(slice(n) for n in shape)], np.float32)


def _enlarge(image: NDArray[np.floating], step: NDArray[np.intp]) -> NDArray[np.floating]:
    """Linear interpolation at ``1 / step`` of the pixel distance, axis by axis."""
    for axis, s in enumerate(step):
        if s == 1:
            continue
        low = np.moveaxis(image, axis, 0)
        weight = (np.arange(s, dtype=np.float32) / np.float32(s)).reshape(1, s, *(1,) * (low.ndim - 1))
        fine = low[:-1, None] * (1 - weight) + low[1:, None] * weight
        image = np.moveaxis(fine.reshape(-1, *low.shape[1:]), 0, axis)
    return image
