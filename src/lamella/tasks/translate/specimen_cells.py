"""Cells for synthetic images: where they lie, how much they delay light, and what two stains show of them.

A cell is a lobed body with a nucleus. The nucleus delays light a little less than the cytoplasm around it and has dark nucleoli; the
cytoplasm is full of granules, densest around the nucleus. One stain binds to chromatin, the other to the cytoplasm and its edge.
What stains show is all there in the transmitted light, but nowhere plain: that is what a net has to find.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lamella.ops.noise import smooth_noise

Image = NDArray[np.float32]

_TRIES = 600
_LOBES = (2, 3, 4, 5)
_REACH = 2.4  # how far a cell may reach, in mean radii
_HEIGHTS = (-1.0, 0.0, 1.0)  # slices from the middle one; cells do not lie in one plane


@dataclass(frozen=True)
class Cells:
    """Delay of light by layers at their ``heights``, and the light of both stains; all (y, x)."""

    layers: tuple[Image, ...]
    heights: tuple[float, ...]
    nuclei: Image
    cytoplasm: Image


def make_cells(rng: np.random.Generator, size: tuple[int, int], radius: tuple[float, float], crowding: float) -> Cells:
    """Cells that cover about ``crowding`` of a field of ``size``, of mean radii between those of ``radius`` in pixels."""
    layers = [np.zeros(size, np.float32) for _ in _HEIGHTS]
    nuclei, cytoplasm = np.zeros(size, np.float32), np.zeros(size, np.float32)
    granules = np.maximum(smooth_noise(rng, size, 1.3), 0) ** 2
    fibres = 1 + 0.25 * smooth_noise(rng, size, (1.2, 5.0))
    chromatin = 1 + 0.22 * smooth_noise(rng, size, 2.2)
    for middle, mean in _places(rng, size, radius, crowding):
        here, local = _around(middle, _REACH * mean, size)
        shape = tuple(s.stop - s.start for s in here)
        body = _depth(rng, shape, local, mean, 0.16)
        at = tuple(m + rng.normal(0, 0.14 * mean) for m in local)
        nucleus = _depth(rng, shape, at, mean * rng.uniform(0.4, 0.5), 0.05)
        within, inside = _edge(body, 1.5), _edge(nucleus, 1.2)
        height = np.sqrt(np.clip(1 - body.clip(0, 1) ** 2, 0, 1)) * within
        near = np.exp(-np.clip(nucleus - 1, 0, None) * 1.2)
        nucleoli = _nucleoli(rng, shape, at, mean)
        grains = 0.7 * granules[here] * within * (1 - inside) * (0.35 + near)
        layers[int(rng.integers(len(layers)))][here] += 0.9 * height + grains + (0.6 * nucleoli - 0.5) * inside
        dna = float(np.exp(rng.normal(0, 0.25)))
        nuclei[here] += dna * inside * chromatin[here] * (1 - 0.5 * nucleoli)
        rim = np.exp(-(((body - 0.93) / 0.07) ** 2)) * within
        cytoplasm[here] += (0.3 + 0.7 * near) * height * (1 - 0.75 * inside) * fibres[here] + 0.45 * rim
    layers[1] += _debris(rng, size)
    return Cells(tuple(layers), _HEIGHTS, np.maximum(nuclei, 0), np.maximum(cytoplasm, 0))


def _around(
    middle: tuple[float, float], reach: float, size: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[float, float]]:
    """The part of a field within ``reach`` of a place, and that place in it."""
    low = [int(np.clip(m - reach, 0, n)) for m, n in zip(middle, size, strict=True)]
    high = [int(np.clip(m + reach + 1, 0, n)) for m, n in zip(middle, size, strict=True)]
    return (slice(low[0], high[0]), slice(low[1], high[1])), (middle[0] - low[0], middle[1] - low[1])


def _places(
    rng: np.random.Generator, size: tuple[int, int], radius: tuple[float, float], crowding: float
) -> list[tuple[tuple[float, float], float]]:
    """Middles and mean radii of cells, which may touch and hardly overlap."""
    placed: list[tuple[tuple[float, float], float]] = []
    covered = 0.0
    for _ in range(_TRIES):
        y, x = rng.uniform(-10, np.array(size) + 10)
        mean = float(rng.uniform(*radius))
        if all(np.hypot(y - a, x - b) > 0.85 * (mean + r) for (a, b), r in placed):
            placed.append(((float(y), float(x)), mean))
            covered += np.pi * mean**2
        if covered > crowding * size[0] * size[1]:
            break
    return placed


def _depth(
    rng: np.random.Generator, size: tuple[int, ...], middle: tuple[float, ...], mean: float, lobes: float
) -> NDArray[np.float64]:
    """Distance from the middle over the radius in that direction: below 1 inside."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    y, x = y - middle[0], x - middle[1]
    turn, stretch = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1, 1.7))
    along, across = (x * np.cos(turn) + y * np.sin(turn)) / stretch, (y * np.cos(turn) - x * np.sin(turn)) * stretch
    angle = np.arctan2(across, along)
    waves = sum(rng.normal(0, lobes / np.sqrt(k)) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in _LOBES)
    return np.hypot(along, across) / (mean * np.maximum(1 + waves, 0.4))


def _edge(depth: NDArray[np.float64], sharpness: float) -> NDArray[np.float64]:
    """1 inside and 0 outside, with an edge of a few pixels."""
    return 1 / (1 + np.exp(np.clip((depth - 1) * 12 * sharpness, -40, 40)))


def _nucleoli(
    rng: np.random.Generator, size: tuple[int, ...], middle: tuple[float, ...], mean: float
) -> NDArray[np.float64]:
    """Two or three round bodies in a nucleus."""
    y, x = np.mgrid[: size[0], : size[1]]
    found = np.zeros(size)
    for _ in range(int(rng.integers(2, 4))):
        at = [m + rng.normal(0, 0.16 * mean) for m in middle]
        found += np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * (0.065 * mean) ** 2))
    return np.minimum(found, 1)


def _debris(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Specks that no stain binds to."""
    points = np.zeros(size, np.float32)
    count = int(np.prod(size)) // 4000
    points[tuple(rng.integers(0, n, count) for n in size)] = rng.uniform(2, 7, count)
    return ndimage.gaussian_filter(points, 1.3)
