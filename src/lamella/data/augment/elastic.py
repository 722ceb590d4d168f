"""Elastic deformation: a smooth random bend given by control points."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lamella.core.errors import UserError
from lamella.data.augment.base import GeometricAugment, Probability, happens, need_plane, num_sections
from lamella.data.geometry import Geometry
from lamella.data.links import Bend, num_knots, steepness
from lamella.data.sample import Sample

# Above 1 tissue would fold; at one half a bend is inverted to a ten-thousandth of a voxel in a dozen steps.
_STEEPEST = 0.5


class Elastic(GeometricAugment):
    """Bend samples by control points on a regular grid, each drawn aside by normal noise, joined by a cubic spline.

    A bend that could fold (stretch by more than a half) is made smaller as a whole.
    """

    kind: Literal["elastic"] = "elastic"
    p: Probability = 0.5
    std: tuple[float, ...] = (2.0,)
    """Standard deviation of a control point, voxels; one number, or one per axis."""
    spacing: tuple[float, ...] = (64.0,)
    """Distance of control points, voxels; one number, or one per axis. At least 1."""
    per_section: bool = False
    """Bend each section by itself instead of all together."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        if self.per_section:
            need_plane(sample, self.kind)
        sections = num_sections(sample) if self.per_section else 1
        spacing, std = self._per_axis("spacing", sample.ndim), self._per_axis("std", sample.ndim)
        knots = tuple(num_knots(size, gap) for size, gap in zip(sample.space, spacing, strict=True))
        drawn = happens(rng, self.p, (sample.batch, sections))
        control = rng.standard_normal((*drawn.shape, sample.ndim, *knots), dtype=np.float32)
        control *= np.reshape(std, (sample.ndim, *[1] * sample.ndim)).astype(np.float32)
        calm = drawn * np.minimum(1, _STEEPEST / np.maximum(steepness(control, spacing), 1e-9))
        control *= calm.reshape(*calm.shape, *[1] * (sample.ndim + 1)).astype(np.float32)
        return Geometry((Bend(control, spacing, sample.space),), sample.space, sample.space)

    def _per_axis(self, name: Literal["std", "spacing"], ndim: int) -> tuple[float, ...]:
        given: tuple[float, ...] = getattr(self, name)
        if len(given) not in (1, ndim) or min(given) < (1 if name == "spacing" else 0):
            raise UserError(
                f"elastic {name} is {given}; give one number or {ndim}, each at least {1 if name == 'spacing' else 0}"
            )
        return given * ndim if len(given) == 1 else given
