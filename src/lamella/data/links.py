"""The two smooth maps that geometry is made of: affine maps, and bends. See `lamella.data.geometry` for the conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

_CLOSE = 1e-4  # voxels; far below what interpolation resolves
_MAX_STEPS = 60


@dataclass(frozen=True, eq=False)
class Affine:
    """``pull(x) = matrix @ x + offset``; matrix ``(b, s, d, d)``, offset ``(b, s, d)``, float64."""

    matrix: NDArray[np.floating]
    offset: NDArray[np.floating]

    def then(self, later: Affine) -> Affine:
        """Both in one: this first, ``later`` after it."""
        return Affine(self.matrix @ later.matrix, times(self.matrix, later.offset) + self.offset)

    def inverse(self) -> Affine:
        matrix = np.linalg.inv(self.matrix)
        return Affine(matrix, -times(matrix, self.offset))

    def pick(self, sections: Sequence[int]) -> Affine:
        """The link of these sections, in this order; a shared one stays shared."""
        if self.num_sections == 1:
            return self
        return Affine(self.matrix[:, list(sections)], self.offset[:, list(sections)])

    @property
    def num_sections(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def is_exact(self) -> bool:
        """Whether voxels go to voxels: axes swapped or turned round and shifts of whole voxels."""
        m = np.abs(self.matrix)
        swaps = np.isin(m, (0, 1)).all() and (m.sum(-1) == 1).all() and (m.sum(-2) == 1).all()
        return bool(swaps and (self.offset == np.rint(self.offset)).all())

    @property
    def is_identity(self) -> bool:
        return bool((self.matrix == np.eye(self.matrix.shape[-1])).all() and (self.offset == 0).all())

    def pull(self, x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "#b #s d n"]:
        matrix = torch.as_tensor(self.matrix, dtype=x.dtype, device=x.device)
        offset = torch.as_tensor(self.offset, dtype=x.dtype, device=x.device)
        return matrix @ x + offset.unsqueeze(-1)

    def push(self, x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "#b #s d n"]:
        return self.inverse().pull(x)


@dataclass(frozen=True, eq=False)
class Bend:
    """``pull(x) = x + e(x)``, with e a cubic B-spline over control displacements.

    control: ``(b, s, d, *knots)`` in voxels, the knots ``spacing`` voxels apart along each axis, the first one spacing before voxel
    0 and the last at least one after the final voxel. The spline is taken at voxels and linear between them, constant outside.
    It can be inverted as long as neighbouring knots differ by less than their spacing (see ``steepness``).
    """

    control: NDArray[np.float32]
    spacing: tuple[float, ...]
    space: tuple[int, ...]

    def dense(self, device: torch.device) -> Float[Tensor, "b s d *space"]:
        """e at every voxel."""
        result = torch.as_tensor(self.control, device=device)
        for size, spacing in zip(self.space, self.spacing, strict=True):
            weights = torch.as_tensor(spline_weights(size, spacing), device=device)
            result = torch.tensordot(
                result, weights, dims=([3], [1])
            )  # each axis goes to the end, so all end up in order
        return result

    def pull(self, x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "#b #s d n"]:
        return x + _look_up(self.dense(x.device), x)

    def push(self, x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "#b #s d n"]:
        """The fixed point y = x - e(y), which exists and attracts since e is a contraction."""
        dense = self.dense(x.device)
        y = x
        for _ in range(_MAX_STEPS):
            last, y = y, x - _look_up(dense, y)
            if bool(((y - last).abs().nan_to_num() < _CLOSE).all()):
                break
        return y

    @property
    def is_exact(self) -> bool:
        return self.is_identity

    @property
    def is_identity(self) -> bool:
        return not self.control.any()

    def pick(self, sections: Sequence[int]) -> Bend:
        """The link of these sections, in this order; a shared one stays shared."""
        return self if self.num_sections == 1 else replace(self, control=self.control[:, list(sections)])

    @property
    def num_sections(self) -> int:
        return int(self.control.shape[1])


def spline_weights(size: int, spacing: float) -> NDArray[np.float32]:
    """Cubic B-spline weights ``(size, knots)`` of each voxel on the knots along one axis; rows sum to 1."""
    u = np.arange(size) / spacing
    cell = np.floor(u).astype(int)
    t = u - cell
    pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((size, num_knots(size, spacing)), np.float32)
    for k, piece in enumerate(pieces):
        weights[np.arange(size), cell + k] = piece / 6
    return weights


def num_knots(size: int, spacing: float) -> int:
    """Knots that an axis of ``size`` voxels needs."""
    return int(np.floor((size - 1) / spacing)) + 4


def steepness(control: NDArray[np.floating], spacing: Sequence[float]) -> NDArray[np.floating]:
    """A bound ``(b, s)`` on how fast a bend's displacement changes, voxels per voxel; below 1 it does not fold.

    The derivative of a B-spline lies between the differences of its control values, so along each axis it is at most the largest
    difference over the spacing; the rows of the Jacobian are bounded by the sum over axes.
    """
    ndim = len(spacing)
    total = np.zeros(control.shape[:3])
    for axis, gap in enumerate(spacing):
        difference = np.abs(np.diff(control, axis=3 + axis)) / gap
        total += difference.max(axis=tuple(range(3, 3 + ndim)))
    return np.asarray(total.max(axis=2))


def to_torch_grid(x: Float[Tensor, "b s d n"], space: tuple[int, ...]) -> Float[Tensor, "bs *one n d"]:
    """Voxel coordinates as ``grid_sample`` wants them with ``align_corners=False``: one image per sample and section, all places
    along the last spatial axis, x first, the image from -1 to 1.
    """
    ndim = len(space)
    parts = [(x[:, :, axis] * (2 / space[axis])).add_(1 / space[axis] - 1) for axis in reversed(range(ndim))]
    return torch.stack(parts, -1).reshape(-1, *[1] * (ndim - 1), x.shape[-1], ndim)


def _look_up(dense: Float[Tensor, "#b #s d *space"], x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "b s2 d n"]:
    """Displacements at any coordinates, linear between voxels, constant outside."""
    batch, space, ndim = dense.shape[0], tuple(dense.shape[3:]), dense.shape[2]
    sections = max(dense.shape[1], x.shape[1])
    if not x.shape[-1]:  # a list of points may be empty
        return x.expand(batch, sections, -1, -1)
    values = dense.expand(batch, sections, *dense.shape[2:]).flatten(0, 1)
    grid = to_torch_grid(x.expand(batch, sections, -1, -1).to(values.dtype), space)
    found = F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.reshape(batch, sections, ndim, -1).to(x.dtype)


def times(matrix: NDArray[np.floating], vector: NDArray[np.floating]) -> NDArray[np.float64]:
    """Matrices ``(b, s, d, d)`` times vectors ``(b, s, d)``."""
    return np.asarray((matrix @ vector[..., None])[..., 0], np.float64)
