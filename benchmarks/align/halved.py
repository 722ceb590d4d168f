"""One look at half the size: the quickest way to a field."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.ops.downsample import downsample_sections
from lamella.ops.field import rescale

ONE_LOOK = {"passes": 1, "flip": False, "symmetric": False, "refine": {"steps": 0}}  # of AlignSettings
Estimate = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def at_half(estimate: Estimate, fixed: NDArray[np.uint8], moving: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The field (2, y, x) that ``estimate(moving, fixed)`` finds on the next mip, at full size."""
    small = (downsample_sections(image[None], 2)[0] for image in (moving, fixed))
    field = torch.from_numpy(estimate(*small))[None]
    return rescale(field, 1, (fixed.shape[0], fixed.shape[1]))[0].numpy()
