"""Foreground from the maps of objects and boundaries, and what is measured on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage as ndi

from lamella.core.config import Config
from lamella.ops.instances.base import Maps

Fusion = Literal["none", "soft", "hard"]


class Foreground(Config):
    """Which voxels lie in objects; fields that all methods share."""

    threshold: float = Field(0.5, ge=0, lt=1)
    """A voxel is foreground where its probability is above this."""
    boundaries: Fusion = "none"
    """How the map of boundaries cuts objects apart: ``none``; ``soft``: objects · (1 - boundaries) is compared with the threshold;
    ``hard``: objects above the threshold and boundaries below ``boundary_threshold``."""
    boundary_threshold: float = Field(0.5, gt=0, le=1)
    """For ``hard``: a voxel is cut away where its boundary probability is not below this."""
    min_size: int = Field(20, ge=0)
    """Objects of fewer voxels are dropped."""

    @property
    def foreground_maps(self) -> tuple[str, ...]:
        """Names of the maps that ``foreground`` reads."""
        return ("objects",) if self.boundaries == "none" else ("objects", "boundaries")


def foreground(maps: Maps, config: Foreground) -> NDArray[np.bool_]:
    """Whether each voxel is foreground."""
    objects = maps["objects"]
    if config.boundaries == "none":
        return objects > config.threshold
    if config.boundaries == "soft":
        return objects * (1 - maps["boundaries"]) > config.threshold
    return (objects > config.threshold) & (maps["boundaries"] < config.boundary_threshold)


def smooth(values: NDArray[np.float32], sigma: float, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Gaussian mean of standard deviation ``sigma``, in units of the smallest voxel side; it reaches ``smooth_reach(sigma)``."""
    if sigma == 0:
        return values
    for axis, step in enumerate(spacing):
        radius = smooth_reach(sigma / step)
        values = ndi.gaussian_filter1d(values, sigma / step, axis, mode="nearest", radius=radius)
    return values


def smooth_reach(sigma: float) -> int:
    """Voxels on either side that ``smooth`` looks at."""
    return int(np.ceil(3 * sigma))


def majority(mask: NDArray[np.bool_], size: int, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """The median of a mask in a window ``size`` voxels wide (odd), fewer along coarser axes: whether most of it is set."""
    if size <= 1:
        return mask
    counts = mask.astype(np.int32)
    total = 1
    for axis, step in enumerate(spacing):
        width = 2 * int((size - 1) / 2 / step) + 1
        counts = ndi.convolve1d(counts, np.ones(width, np.int32), axis, mode="nearest")
        total *= width
    return 2 * counts > total
