"""Fragments: a volume cut into pieces that lie each in one object, from which objects are put together.

The *boundary map* is 1 - the mean of the nearest affinities. It is flooded from seeds (watershed, scikit-image), so that the
fragments meet on its ridges and every voxel belongs to one. Background, where there is any, is a high plain of that map, which the
objects around would flood. With ``has_background`` places well within it become seeds too, which share one label; each spreads at
once over all of its plain (the map above 0.5, without what is as thin as a line between two objects), and that is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from skimage.morphology import local_maxima, local_minima
from skimage.segmentation import watershed

from lamella.core.config import Config
from lamella.core.rng import stream
from lamella.ops.affinities import boundary_map
from lamella.ops.instances.base import spacing
from lamella.ops.instances.components import connected
from lamella.ops.instances.watershed import distances

INSIDE = 0.5  # a voxel lies in an object where the boundary map is below this
_DEEP = (
    2.0  # voxel sides that seeds of the background keep from what may be an object: lines between objects are thinner
)
_TRIES = 100  # places that are drawn for each seed of the background
_BACKGROUND = -1


class FragmentsConfig(Config):
    """How fragments are made; fields that methods share."""

    seeds: Literal["maxima", "grid", "minima"] = "maxima"
    """Where fragments begin: at the maxima of the distance to where the boundary map is 0.5, at the points of a grid, or at the
    minima of the boundary map."""
    grid: int = Field(10, ge=2)
    """For ``grid``: the distance of two points, in units of the smallest voxel side."""
    slices: bool = True
    """Cut every section of a volume by itself, as in serial sections; otherwise the volume with its voxel size."""
    has_background: bool = False
    """Whether there is background, which then gets seeds of its own and is no object."""
    background_seeds: int = Field(20, ge=1)
    """Places in the background that become seeds, at most; of each section that is cut by itself."""
    background_apart: float = Field(10.0, ge=0)
    """Least distance of two of them, in units of the smallest voxel side."""
    seed: int = Field(0, ge=0)
    """Seed of the places in the background."""


@dataclass(frozen=True)
class Fragments:
    """A volume in fragments; all arrays are (*space).

    ``boundaries`` float32, 0 to 1; ``distance`` float32 to where the boundary map is 0.5, in units of the smallest voxel side;
    ``seeds`` and ``labels`` int32, numbered from 1; ``background`` the label that is background, 0 if none is.
    """

    boundaries: NDArray[np.float32]
    distance: NDArray[np.float32]
    seeds: NDArray[np.int32]
    labels: NDArray[np.int32]
    background: int = 0


def make_fragments(
    near: NDArray[np.float32], config: FragmentsConfig, voxel_size: Sequence[float] | None = None
) -> Fragments:
    """The fragments of nearest affinities (ndim, *space). Fragments of sections that are cut by themselves lie in one section each."""
    ndim = len(near)
    flat = config.slices and ndim == 3
    steps = spacing(None if voxel_size is None else voxel_size[-2 if flat else 0 :], 2 if flat else ndim)
    boundaries = boundary_map(near, flat=flat)
    sections = boundaries if flat else boundaries[None]
    cut: list[Cut] = [_cut(one, config, steps, stream(config.seed, "background", z)) for z, one in enumerate(sections)]
    seeds, labels, background = _together([(found[1], found[2]) for found in cut])
    distance = np.stack([found[0] for found in cut])
    shape = boundaries.shape
    return Fragments(boundaries, distance.reshape(shape), seeds.reshape(shape), labels.reshape(shape), background)


Cut = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]


def _cut(
    boundaries: NDArray[np.float32], config: FragmentsConfig, steps: tuple[float, ...], rng: np.random.Generator
) -> Cut:
    """Distance, seeds and fragments of one section or volume; those of the background are ``_BACKGROUND``."""
    inside = boundaries < INSIDE
    distance = distances(inside, steps)
    seeds = _seeds(boundaries, distance, config, steps)
    marks = seeds
    if config.has_background:
        places, plain = _background(~inside, config, steps, rng)
        seeds = np.where(inside, seeds, 0)
        marks = np.where(plain, _BACKGROUND, seeds)
        seeds[tuple(places.T)] = _BACKGROUND
    flooded = watershed(boundaries, marks).astype(np.int32) if marks.any() else marks
    return np.where(np.isfinite(distance), distance, 0).astype(np.float32), seeds, flooded


def _seeds(
    boundaries: NDArray[np.float32], distance: NDArray[np.float32], config: FragmentsConfig, steps: tuple[float, ...]
) -> NDArray[np.int32]:
    if config.seeds == "grid":
        sides = [max(round(config.grid / s), 1) for s in steps]
        places: NDArray[Any] = np.zeros(boundaries.shape, bool)
        middles = [min(side // 2, n - 1) for side, n in zip(sides, boundaries.shape, strict=True)]
        places[tuple(slice(first, None, side) for first, side in zip(middles, sides, strict=True))] = True
    elif config.seeds == "minima":
        places = local_minima(boundaries, connectivity=1)
    else:
        places = local_maxima(distance, connectivity=1) & (distance > 0)
    if not places.any() and (boundaries < INSIDE).any():  # a level map has no extremum: it is one fragment
        places = boundaries == boundaries.min()
    return connected(places)[0].astype(np.int32)


def _background(
    outside: NDArray[np.bool_], config: FragmentsConfig, steps: tuple[float, ...], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Voxels (n, ndim) drawn at random well within the background, none too near another, and the plains (*space) they lie in."""
    deep = outside & (distances(outside, steps) > _DEEP)
    places = _drawn(np.flatnonzero(deep), outside.shape, config, steps, rng)
    parts, _ = connected(outside & (distances(~deep, steps) <= _DEEP))
    return places, (parts > 0) & np.isin(parts, parts[tuple(places.T)])


def _drawn(
    deep: NDArray[np.int64],
    shape: tuple[int, ...],
    config: FragmentsConfig,
    steps: tuple[float, ...],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    drawn = rng.choice(deep, min(len(deep), _TRIES * config.background_seeds), replace=False)
    places = np.stack(np.unravel_index(drawn, shape), axis=1)
    kept: list[int] = []
    for n, place in enumerate(places * np.array(steps)):
        apart = np.linalg.norm(places[kept] * np.array(steps) - place, axis=1)
        if len(kept) < config.background_seeds and (apart >= config.background_apart).all():
            kept.append(n)
    return places[kept]


def _together(
    cut: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]],
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Seeds and fragments of all sections, each section's numbered after those before it and the background last."""
    counts = [int(seeds.max(initial=0)) for seeds, _ in cut]
    total, first, stacked = sum(counts), 0, []
    for (seeds, labels), count in zip(cut, counts, strict=True):
        stacked.append(
            [np.where(a == _BACKGROUND, total + 1, a + first * (a > 0)).astype(np.int32) for a in (seeds, labels)]
        )
        first += count
    seeds, labels = (np.stack([pair[k] for pair in stacked]) for k in (0, 1))
    return seeds, labels, total + 1 if (seeds == total + 1).any() else 0
