"""Two classical methods of registration for ``paper_table.py``: block phase correlation and demons.

Each takes (fixed, moving), uint8 sections of one shape, and gives a field (2, y, x), (dy, dx): moving(p + field(p)) matches fixed(p).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from lamella.ops.normalise import Local

BLOCK, STRIDE = 96, 32  # pixels
LEVELS = ((4, 60), (2, 40), (1, 20))  # shrink factor, iterations
SIGMA = 2.0  # of the smoothing of the demons' field, pixels

sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _normalised(section: NDArray[np.uint8]) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(Local().build(0)(section), 1.5)


def blocks(fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Phase correlation of blocks that overlap (Kuglin and Hines 1975), outliers replaced by the median of their neighbours, interpolated
    by cubic splines."""
    a, b = _normalised(fixed), _normalised(moving)
    window = np.outer(np.hanning(BLOCK), np.hanning(BLOCK))
    corners = [np.arange(0, n - BLOCK + 1, STRIDE) for n in fixed.shape]
    shifts = np.zeros((2, len(corners[0]), len(corners[1])))
    for i, y in enumerate(corners[0]):
        for j, x in enumerate(corners[1]):
            p, q = (v[y : y + BLOCK, x : x + BLOCK] for v in (a, b))
            there = phase_cross_correlation((p - p.mean()) * window, (q - q.mean()) * window, upsample_factor=10)[0]
            shifts[:, i, j] = -np.asarray(there)
    median = np.stack([ndimage.median_filter(s, 5, mode="nearest") for s in shifts])
    shifts = np.where(np.hypot(*(shifts - median)) > 3, median, shifts)
    shifts = np.stack([ndimage.gaussian_filter(s, 0.7, mode="nearest") for s in shifts])
    places = [(np.arange(n) - (BLOCK - 1) / 2) / STRIDE for n in fixed.shape]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    return np.stack([ndimage.map_coordinates(s, grid, order=3, mode="nearest") for s in shifts]).astype(np.float32)


def demons(fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fast symmetric forces demons (Vercauteren et al. 2009) from coarse to fine."""
    images = [sitk.GetImageFromArray(_normalised(v)) for v in (fixed, moving)]
    field: Any = None
    for factor, iterations in LEVELS:
        a, b = (_shrunk(image, factor) for image in images)
        step = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        step.SetNumberOfIterations(iterations)
        step.SetSmoothDisplacementField(True)
        step.SetStandardDeviations(SIGMA * factor)
        if field is None:
            field = step.Execute(a, b)
        else:
            field = step.Execute(a, b, sitk.Resample(field, a, sitk.Transform(), sitk.sitkLinear, 0.0))
    return np.moveaxis(sitk.GetArrayFromImage(field)[..., ::-1], -1, 0).astype(np.float32)


def _shrunk(image: Any, factor: int) -> Any:
    return sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, 0.5 * factor), [factor] * 2) if factor > 1 else image
