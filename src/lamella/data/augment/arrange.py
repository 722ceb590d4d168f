"""Mirror, transpose, crop, pad, and the order of the sections: voxels change places and none is interpolated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.errors import UserError
from lamella.data.augment.affine import AxisName, present
from lamella.data.augment.base import Augment, GeometricAugment, Probability, happens, num_sections
from lamella.data.geometry import Geometry, affine, identity_matrix
from lamella.data.links import Affine
from lamella.data.sample import Layer, Sample


class Mirror(GeometricAugment):
    """Flip each axis with probability p, all sections together."""

    kind: Literal["mirror"] = "mirror"
    p: Probability = 0.5
    axes: tuple[AxisName, ...] = ("z", "y", "x")
    """Axes that may be flipped; z is passed over in 2D (``reverse`` turns the order of sections)."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        matrix = identity_matrix(sample.batch, 1, sample.ndim)
        for axis in present(self.axes, sample.ndim):
            matrix[..., axis, axis] = np.where(happens(rng, self.p, (sample.batch, 1)), -1, 1)
        return affine(matrix, sample.space)


class Transpose(GeometricAugment):
    """Swap y and x with probability p, or, with three ``axes``, put these in any order. Where they differ in size, the whole batch
    is treated alike.
    """

    kind: Literal["transpose"] = "transpose"
    p: Probability = 0.5
    axes: tuple[AxisName, ...] = Field(("y", "x"), min_length=2)
    """Axes that change places; z is passed over in 2D."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        axes = [sample.ndim + axis for axis in present(self.axes, sample.ndim)]
        orders = [order for order in permutations(axes) if list(order) != axes] or [tuple(axes)]
        drawn = happens(rng, self.p, (sample.batch, 1))
        chosen = rng.integers(len(orders), size=drawn.shape) if len(orders) > 1 else np.zeros(drawn.shape, int)
        if len({sample.space[axis] for axis in axes}) > 1:
            drawn[:], chosen[:] = drawn[0], chosen[0]
        places = np.tile(np.arange(sample.ndim), (sample.batch, 1, 1))
        for k in np.flatnonzero(drawn):
            places[k, 0, axes] = orders[int(chosen[k, 0])]
        matrix = np.eye(sample.ndim)[np.argsort(places, -1)]  # output axis i shows input axis places[i]
        target = tuple(sample.space[axis] for axis in places[0, 0])
        # about the corner, which both spaces share, instead of the centre
        return Geometry((Affine(matrix, np.zeros(matrix.shape[:-1])),), sample.space, target)


class Crop(GeometricAugment):
    """Cut out a box, at a place of its own for each sample; one that leaves more than it shows lets rotations fill the corners."""

    kind: Literal["crop"] = "crop"
    size: tuple[int, ...] = Field(min_length=1, max_length=3)
    """Voxels along each axis, ``z y x`` or ``y x``; a single number means all axes."""
    centre: bool = False
    """Take the middle instead of a random place."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        size = self.size * sample.ndim if len(self.size) == 1 else self.size
        if len(size) != sample.ndim or any(s > n for s, n in zip(size, sample.space, strict=False)):
            raise UserError(f"crop {size} does not fit into samples of {sample.space}; give at most that, axis by axis")
        room = np.array(sample.space, np.int64) - np.array(size, np.int64)
        start: NDArray[np.int64] = rng.integers(0, room + 1, (sample.batch, 1, sample.ndim))
        return _window(sample, np.broadcast_to(room // 2, start.shape) if self.centre else start, size)


class Pad(GeometricAugment):
    """Put an empty border of ``total`` voxels per axis around the sections, the place inside it drawn per sample."""

    kind: Literal["pad"] = "pad"
    total: int = Field(default=128, ge=0)
    """Border on both sides together, voxels, along y and x; a quarter to three quarters of it lie before the section."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Geometry:
        border = np.array([self.total if axis >= sample.ndim - 2 else 0 for axis in range(sample.ndim)])
        before = rng.integers(border // 4, 3 * border // 4 + 1, (sample.batch, 1, sample.ndim))
        return _window(sample, -before, tuple(int(n) for n in border + sample.space))


@dataclass(frozen=True)
class Order:
    """Whether the sections of the batch are turned round."""

    reverse: bool


class Reverse(Augment):
    """Turn the order of the sections round, with probability p for the whole batch.

    Fields between sections keep their values; ``on`` and ``to`` follow the sections, which is why the batch turns as one.
    """

    kind: Literal["reverse"] = "reverse"
    p: Probability = 0.5

    def draw(self, rng: np.random.Generator, sample: Sample) -> Order:
        num_sections(sample)
        return Order(bool(rng.random() < self.p))

    def apply(self, sample: Sample, params: Order) -> Sample:
        if not params.reverse:
            return sample
        last = num_sections(sample) - 1
        return Sample({name: _reversed(layer, last) for name, layer in sample.items()})


def _reversed(layer: Layer, last: int) -> Layer:
    if layer.kind not in ("field", "points") and not layer.on and layer.tensor.shape[1] == last + 1:
        return layer.with_tensor(layer.tensor.flip(1))
    return replace(layer, on=tuple(last - k for k in layer.on), to=tuple(last - k for k in layer.to))


def _window(sample: Sample, start: NDArray[np.integer], size: tuple[int, ...]) -> Geometry:
    """What a box ``size`` at ``start`` ``(b, 1, d)`` shows; parts outside are empty."""
    matrix = identity_matrix(sample.batch, 1, sample.ndim)
    return Geometry((Affine(matrix, start.astype(np.float64)),), sample.space, size)
