"""The tissue of the synthetic specimen: closely packed neurites whose cross-sections change smoothly from section to section.

Each neurite is one or a few discs whose centres wander through z. A section shows the power diagram of the discs (a Voronoi
diagram with radii), bent by a smooth warp that itself changes with z; the walls between different neurites are the membranes.
A section has a thickness: three depths are averaged, so walls that run obliquely through it are wide and pale, as they are in
the microscope.

Distances are in pixels; images are (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from lamella.core.rng import stream
from lamella.ops.noise import smooth_noise

_SPACING = 31.0  # px between discs before they are displaced
_REST = 60.0  # px over which the mean motion of neurites is zero
_DEPTHS = (-0.33, 0.0, 0.33)  # fractions of a section
_NEIGHBOURS = 6  # discs compared at each pixel
_STRIDE = 2  # walls are wide enough to be computed at half the pixels and enlarged


@dataclass(frozen=True)
class Tissue:
    """Discs along z, and the warp that bends them.

    ``centre`` is (z, disc, 2) in px, ``radius`` (z, disc), ``neurite`` (disc,) the neurite's number, ``warp`` (z, 2, y, x) on a
    grid of ``warp_step`` px. Section 0 is row ``1`` of each, so that depths before the first section exist.
    """

    shape: tuple[int, int]
    centre: NDArray[np.float64]
    radius: NDArray[np.float64]
    neurite: NDArray[np.intp]
    warp: NDArray[np.floating]
    warp_step: int


@dataclass(frozen=True)
class Anatomy:
    """One section: where membranes are (0 to 1), how far the next wall is, which neurite is where, and the bent coordinates."""

    membrane: NDArray[np.floating]
    wall: NDArray[np.floating]
    neurite: NDArray[np.intp]
    bent: NDArray[np.floating]


def grow(seed: int, num_sections: int, shape: tuple[int, int], speed: float) -> Tissue:
    """A block of tissue; ``speed`` is how far a neurite's centre moves from one section to the next, in px (rms)."""
    rng = stream(seed, "specimen", "tissue")
    base = _scatter(rng, shape)
    n, depth = len(base), num_sections + 2
    radius = np.where(rng.random(n) < 0.16, rng.uniform(26, 66, n), rng.uniform(4, 22, n))
    velocity = ndi.gaussian_filter1d(rng.standard_normal((depth + 24, n, 2)), 2.5, axis=0)[12:-12]
    velocity = _at_rest(velocity * rng.lognormal(-0.2, 0.5, (1, n, 1)), base, radius)
    velocity *= speed / np.sqrt(2) / velocity.std()
    path = np.cumsum(velocity, axis=0)
    breathing = ndi.gaussian_filter1d(rng.standard_normal((depth + 24, n)), 2.5, axis=0)[12:-12]
    step = 8
    coarse = (depth, 2, *(-(-s // step) + 4 for s in shape))
    bend = 12 * smooth_noise(rng, coarse, (16.0, 0.0, 4.5, 4.5)) + 6.5 * smooth_noise(rng, coarse, (8.0, 0.0, 1.8, 1.8))
    bend += 1.6 * smooth_noise(rng, coarse, (0.8, 0.0, 1.4, 1.4))  # membranes undulate from section to section
    return Tissue(
        shape,
        base + path - path[depth // 2],
        radius * (1 + 0.12 * breathing / breathing.std()),
        _join(rng, base),
        bend.astype(np.float32),
        step,
    )


def cross_section(tissue: Tissue, z: int) -> Anatomy:
    """The anatomy of section ``z``, averaged through its thickness."""
    rows, columns = (np.arange(0, n + _STRIDE, _STRIDE) for n in tissue.shape)
    walls = []
    for depth in _DEPTHS:
        bent = np.stack(np.meshgrid(rows, columns, indexing="ij")) + _warp_at(tissue, z + depth, rows, columns)
        nearest, wall = _walls(tissue, z + depth, bent)
        walls.append(np.exp(-0.5 * (wall / 2.5) ** 2))
        if depth == 0:
            neurite, distance, middle = nearest, wall, bent
    return Anatomy(
        np.clip(_enlarge(np.mean(walls, axis=0), tissue.shape, 3), 0, 1),
        _enlarge(distance, tissue.shape, 1),
        _enlarge(neurite, tissue.shape, 0).astype(np.intp),
        np.stack([_enlarge(c, tissue.shape, 1) for c in middle]),
    )


def _scatter(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Disc centres (disc, 2): a jittered grid that reaches a little over the image."""
    axes = [np.arange(-2 * _SPACING, n + 2 * _SPACING, _SPACING) for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid + rng.uniform(-0.6, 0.6, grid.shape) * _SPACING


def _at_rest(
    velocity: NDArray[np.float64], base: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Velocities (z, disc, 2) less the mean of the discs around each: neurites go their own ways, the tissue stays.

    Without this nothing could tell the tissue's own motion from a deformation of the section, and the truth would not be one.
    """
    tree = cKDTree(base)
    weight = tree.sparse_distance_matrix(tree, 3 * _REST, output_type="coo_matrix").tocsr()
    weight.data = np.exp(-0.5 * (weight.data / _REST) ** 2) * ((radius + _SPACING / 3) ** 2)[weight.indices]
    total = np.asarray(weight.sum(axis=1))
    return velocity - np.stack([(weight @ step) / total for step in velocity])


def _join(rng: np.random.Generator, base: NDArray[np.float64]) -> NDArray[np.intp]:
    """Neurite numbers: a third of the discs belong to their neighbour's neurite, which makes long and bent profiles."""
    neurite = np.arange(len(base))
    _, order = cKDTree(base).query(base, k=4)
    for disc in np.flatnonzero(rng.random(len(base)) < 0.34):
        old, new = neurite[disc], neurite[order[disc, rng.integers(1, 4)]]
        if np.count_nonzero((neurite == old) | (neurite == new)) <= 4:
            neurite[neurite == old] = new
    return neurite


def _at(values: NDArray[np.floating], z: float) -> NDArray[np.floating]:
    """Linear interpolation along z, where section 0 is row 1."""
    low = int(np.floor(z + 1))
    part = z + 1 - low
    return values[low] * (1 - part) + values[min(low + 1, len(values) - 1)] * part


def _warp_at(tissue: Tissue, z: float, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.floating]:
    where = np.meshgrid(rows / tissue.warp_step, columns / tissue.warp_step, indexing="ij")
    return np.stack([ndi.map_coordinates(c, where, order=3, mode="nearest") for c in _at(tissue.warp, z)])


def _walls(tissue: Tissue, z: float, bent: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """The neurite at each bent coordinate, and the distance to the nearest wall with another neurite.

    The power distance |x - c|² - r² is a Euclidean distance once each disc gets a height sqrt(R² - r²), so a k-d tree finds the
    nearest discs. Between discs i and j the wall is (p_j - p_i) / (2 |c_j - c_i|) away.
    """
    centre, radius = _at(tissue.centre, z), _at(tissue.radius, z)
    height = np.sqrt((radius**2).max() - radius**2)
    tree = cKDTree(np.column_stack([centre, height]))
    points = np.column_stack([*(c.ravel() for c in bent), np.zeros(bent[0].size)])
    distance, disc = tree.query(points, k=_NEIGHBOURS)
    power = distance**2
    gap = np.linalg.norm(centre[disc[:, 1:]] - centre[disc[:, :1]], axis=-1)
    wall = (power[:, 1:] - power[:, :1]) / (2 * np.maximum(gap, 1e-6))
    wall[tissue.neurite[disc[:, 1:]] == tissue.neurite[disc[:, :1]]] = np.inf
    shape = bent[0].shape
    neurite = tissue.neurite[disc[:, 0]].reshape(shape)
    nearest = np.minimum(wall.min(axis=1), 200.0).reshape(shape)
    return neurite, np.maximum(nearest, 0.8 * _STRIDE * _edge_distance(neurite) - 3).astype(np.float32)


def _edge_distance(neurite: NDArray[np.intp]) -> NDArray[np.float64]:
    """Pixels to the next pixel of another neurite.

    The line between two discs runs on beyond the wall that it carries, into neurites of several discs; this bound ends it there.
    """
    same = np.ones(neurite.shape, bool)
    same[1:] &= neurite[1:] == neurite[:-1]
    same[:, 1:] &= neurite[:, 1:] == neurite[:, :-1]
    return ndi.distance_transform_edt(same)


def _enlarge(image: NDArray[np.generic], shape: tuple[int, int], order: int) -> NDArray[np.floating]:
    where = np.meshgrid(*(np.arange(n) / _STRIDE for n in shape), indexing="ij")
    return ndi.map_coordinates(image.astype(np.float32), where, order=order, mode="nearest")
