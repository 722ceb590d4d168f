"""Weights that tell a loss which voxels matter: equal say for objects and background, and more for the gaps between objects.

The map of the U-Net paper (Ronneberger et al. 2015): class balance + ``w0`` * exp(-(d1 + d2)^2 / (2 sigma^2)) in the background,
where d1 and d2 are the distances to the nearest and the second nearest object. With one object or none there is no gap, and the
class balance is left. Arrays are (*space), 2D or 3D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_REACH = 6.0  # sigmas of d1 + d2 beyond which a gap adds less than 2e-7 of w0


def class_balance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Weights of mean 1 that give objects and background the same sum; 1 everywhere where there is only one of them.

    >>> class_balance(np.array([True, False, False, False])).tolist()
    [2.0, 0.6666666865348816, 0.6666666865348816, 0.6666666865348816]
    """
    share = float(mask.mean()) if mask.size else 0.0
    if share in (0.0, 1.0):
        return np.ones(mask.shape, np.float32)
    return np.where(mask, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)


def border_weights(
    labels: NDArray[Any], w0: float = 10.0, sigma: float = 5.0, spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """The weight map of ``labels``: a mask, whose connected parts are the objects, or instance numbers (0 background).

    ``spacing`` gives the relative size of a voxel along each axis, for ``sigma`` in those units.
    """
    objects = ndimage.label(labels)[0] if labels.dtype == bool else labels
    steps = np.ones(labels.ndim) if spacing is None else np.asarray(spacing, float)
    nearest, second = _two_distances(np.asarray(objects), _REACH * sigma, steps)
    gap = np.where(np.isfinite(second), w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2)), 0)
    return (class_balance(objects != 0) + np.where(objects == 0, gap, 0)).astype(np.float32)


def _two_distances(
    objects: NDArray[Any], reach: float, steps: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances to the nearest and the second nearest object, infinite beyond ``reach``.

    Each object is measured in its own surroundings only, so that many objects take no longer than their area.
    """
    nearest = np.full(objects.shape, np.inf, np.float32)
    second = nearest.copy()
    margin = [math.ceil(reach / s) for s in steps]
    _, numbered = np.unique(objects, return_inverse=True)
    numbered = numbered.reshape(objects.shape) + (0 if (objects == 0).any() else 1)
    for number, place in enumerate(ndimage.find_objects(numbered), 1):
        around = tuple(slice(max(p.start - m, 0), p.stop + m) for p, m in zip(place, margin, strict=True))
        distance = ndimage.distance_transform_edt(numbered[around] != number, sampling=steps).astype(np.float32)
        distance[distance > reach] = np.inf
        one, two = nearest[around], second[around]
        second[around] = np.minimum(two, np.maximum(one, distance))
        nearest[around] = np.minimum(one, distance)
    return nearest, second
