"""What can be had without training: smooth, threshold by Otsu, part touching objects by a distance watershed.

A trained network has to be better than this to be worth its time; ``lamella evaluate instances --baseline`` shows where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from lamella.ops.instances import DistanceWatershed
from lamella.ops.instances.base import spacing
from lamella.ops.instances.foreground import smooth


def otsu_instances(
    image: NDArray[Any],
    *,
    sigma: float = 1.0,
    watershed: DistanceWatershed | None = None,
    voxel_size: Sequence[float] | None = None,
) -> NDArray[np.int32]:
    """Bright objects of one image, (z) y x of any integers or floats, as labels of the same shape.

    ``sigma`` is the standard deviation of the smoothing before, in units of the smallest voxel side; the threshold is one for the
    whole image (Otsu, 1979). An image of one grey level has no objects.
    """
    steps = spacing(voxel_size, image.ndim)
    grey = smooth(image.astype(np.float32), sigma, steps)
    if grey.min() == grey.max():
        return np.zeros(image.shape, np.int32)
    objects = (grey > threshold_otsu(grey)).astype(np.float32)
    return (watershed or DistanceWatershed()).build()({"objects": objects}, voxel_size)
