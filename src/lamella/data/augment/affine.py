"""Rotation, scale, shear and translation of whole samples, all sections together."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lamella.data.augment.base import Chance, GeometricAugment, Normal, Probability, Uniform, happens
from lamella.data.geometry import Geometry, affine, identity_matrix
from lamella.data.sample import Sample

AxisName = Literal["z", "y", "x"]


def axis_index(name: AxisName) -> int:
    """The axis from the end, so that 2D and 3D agree."""
    return {"z": -3, "y": -2, "x": -1}[name]


class Rotate(GeometricAugment):
    """Turn the sample in the plane of its sections (in 3D about z), p = ½, by any angle."""

    kind: Literal["rotate"] = "rotate"
    p: Probability = 0.5
    degrees: Chance = Uniform(low=0, high=360)
    """Angle; positive turns y towards x."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        drawn = happens(rng, self.p, (sample.batch, 1))
        angle = np.where(drawn, np.deg2rad(self.degrees.draw(rng, drawn.shape)), 0)
        return affine(rotation(angle, sample.ndim), sample.space)


class Scale(GeometricAugment):
    """Enlarge (above 1) or shrink the sample about its centre."""

    kind: Literal["scale"] = "scale"
    p: Probability = 0.5
    factor: Chance = Normal(mean=1, std=0.01)
    """Size afterwards over size before; one draw for all axes."""
    axes: tuple[AxisName, ...] = ("z", "y", "x")
    """Axes to scale; z is passed over in 2D."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        drawn = happens(rng, self.p, (sample.batch, 1))
        factor = np.where(drawn, self.factor.draw(rng, drawn.shape), 1)
        matrix = identity_matrix(sample.batch, 1, sample.ndim)
        for axis in present(self.axes, sample.ndim):
            matrix[..., axis, axis] = 1 / np.maximum(factor, 0.01)  # a wide normal must not turn the sample inside out
        return affine(matrix, sample.space)


class Shear(GeometricAugment):
    """Slant the sample in the plane of its sections, along y and along x."""

    kind: Literal["shear"] = "shear"
    p: Probability = 0.5
    degrees: Chance = Uniform(low=-10, high=10)
    """Angle by which each of the two axes leans over."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        drawn = happens(rng, self.p, (sample.batch, 1))
        lean = np.tan(np.deg2rad(self.degrees.draw(rng, (2, *drawn.shape)))) * drawn
        matrix = identity_matrix(sample.batch, 1, sample.ndim)
        matrix[..., -2, -1], matrix[..., -1, -2] = lean
        return affine(matrix, sample.space)


class Translate(GeometricAugment):
    """Shift the sample, all sections together."""

    kind: Literal["translate"] = "translate"
    p: Probability = 0.5
    fraction: Chance = Uniform(low=-0.2, high=0.2)
    """Shift over the size of each axis."""
    axes: tuple[AxisName, ...] = ("y", "x")

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        drawn = happens(rng, self.p, (sample.batch, 1, 1))
        shift = self.fraction.draw(rng, (sample.batch, 1, sample.ndim)) * np.array(sample.space) * drawn
        chosen = np.isin(np.arange(sample.ndim) - sample.ndim, present(self.axes, sample.ndim))
        return affine(identity_matrix(sample.batch, 1, sample.ndim), sample.space, shift * chosen)


def rotation(angle: NDArray[np.floating], ndim: int) -> NDArray[np.float64]:
    """Matrices ``(b, s, d, d)`` that pull content turned by ``angle`` ``(b, s)`` radians in the plane of y and x."""
    batch, sections = angle.shape
    matrix = identity_matrix(batch, sections, ndim)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix[..., -2, -2], matrix[..., -2, -1] = cos, sin
    matrix[..., -1, -2], matrix[..., -1, -1] = -sin, cos
    return matrix


def present(axes: tuple[AxisName, ...], ndim: int) -> list[int]:
    """Those of ``axes`` that a sample of ``ndim`` axes has, counted from the end."""
    return [index for index in map(axis_index, axes) if -index <= ndim]
