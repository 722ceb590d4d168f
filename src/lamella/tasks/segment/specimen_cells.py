"""Nuclei for synthetic images: where they lie, their outlines, and the light that they send.

An outline is an ellipse with a few waves on it, given by its radius at each angle. ``depth`` of a pixel is its distance from the
middle as a share of that radius: 0 in the middle, 1 at the edge. Where two nuclei meet, a pixel belongs to the one in which it lies
less deep, so that they share an edge, as pressed cells do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.ops.noise import smooth_noise

_WAVES = (2, 3, 4, 5)  # bumps around a nucleus
_WAVINESS = 0.05
_REACH = 1.6  # how far a nucleus may reach, in mean radii
_TRIES = 4000
_CLUMP = 0.6  # share of nuclei that are put beside another one


@dataclass(frozen=True)
class Cell:
    """A nucleus: its middle (y, x), mean radius, elongation, angle, the waves' amplitudes and phases, and its brightness."""

    middle: tuple[float, float]
    radius: float
    elongation: float
    angle: float
    amplitudes: NDArray[np.float64]
    phases: NDArray[np.float64]
    brightness: float

    @property
    def area(self) -> float:
        return float(np.pi * self.radius**2)

    def frame(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """The part of an image in which it lies."""
        reach = self.radius * _REACH + 2
        low = [int(max(m - reach, 0)) for m in self.middle]
        high = [int(min(m + reach + 1, n)) for m, n in zip(self.middle, size, strict=True)]
        return slice(low[0], max(high[0], low[0])), slice(low[1], max(high[1], low[1]))

    def depth(self, frame: tuple[slice, slice]) -> NDArray[np.float64]:
        """Distance from the middle over the radius in that direction, for the pixels of ``frame``."""
        y, x = np.mgrid[frame].astype(np.float64)
        y, x = y - self.middle[0], x - self.middle[1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        stretch = np.sqrt(self.elongation)
        along, across = (x * cos + y * sin) / stretch, (y * cos - x * sin) * stretch
        angle = np.arctan2(across, along)
        waves = sum(a * np.cos(k * angle + p) for k, a, p in zip(_WAVES, self.amplitudes, self.phases, strict=True))
        return np.hypot(along, across) / (self.radius * (1 + waves))


@dataclass(frozen=True)
class Painted:
    """``light`` that reaches the lens, 1 for an average nucleus; ``owner`` the number of the nucleus of each pixel, or -1; ``heap``
    where nuclei lie over each other."""

    light: NDArray[np.float32]
    owner: NDArray[np.int32]
    heap: NDArray[np.bool_]


def draw_cells(
    rng: np.random.Generator,
    size: tuple[int, int],
    radius: tuple[float, float],
    crowding: float,
    share: float,
    avoid: Sequence[Cell],
) -> list[Cell]:
    """Nuclei that cover about ``share`` of the image, in clumps, with middles at least ``crowding`` times their radii apart."""
    cells: list[Cell] = []
    wanted, covered = share * size[0] * size[1], 0.0
    for _ in range(_TRIES):
        cell = _cell(rng, _place(rng, size, radius, cells), radius)
        others = [(c, crowding) for c in cells] + [(c, 1.0) for c in avoid]
        if all(_distance(cell, c) >= least * (cell.radius + c.radius) for c, least in others):
            cells.append(cell)
            covered += cell.area
        if covered >= wanted:
            break
    return cells


def draw_heap(rng: np.random.Generator, size: tuple[int, int], radius: tuple[float, float]) -> list[Cell]:
    """Nuclei that lie over each other around one place."""
    middle = np.array(size) * rng.uniform(0.15, 0.85, 2)
    spread = 1.2 * np.mean(radius)
    return [_cell(rng, tuple(middle + rng.normal(0, spread, 2)), radius) for _ in range(int(rng.integers(8, 15)))]


def paint(
    rng: np.random.Generator, size: tuple[int, int], cells: Sequence[Cell], heap: Sequence[Cell], debris: int
) -> Painted:
    """The light of all nuclei; those of the heap add up, the others end at each other's edges."""
    owner = np.full(size, -1, np.int32)
    least = np.full(size, 1.0)
    for number, cell in enumerate(cells):
        frame = cell.frame(size)
        depth = cell.depth(frame)
        nearer = depth < least[frame]
        owner[frame][nearer] = number
        least[frame][nearer] = depth[nearer]
    light = _emission(least) * np.array([*(c.brightness for c in cells), 0.0])[owner]
    piled = np.zeros(size, bool)
    for cell in heap:
        frame = cell.frame(size)
        depth = cell.depth(frame)
        light[frame] += 0.7 * cell.brightness * _emission(depth)
        piled[frame] |= depth < 1
    light *= 1 + 0.16 * smooth_noise(rng, size, 2.5)  # chromatin is not spread evenly
    for _ in range(debris):
        _speck(rng, light)
    return Painted(np.maximum(light, 0).astype(np.float32), owner, piled)


def _cell(rng: np.random.Generator, middle: tuple[float, ...], radius: tuple[float, float]) -> Cell:
    return Cell(
        (float(middle[0]), float(middle[1])),
        float(rng.uniform(*radius)),
        float(rng.uniform(1, 1.6)),
        float(rng.uniform(0, np.pi)),
        rng.normal(0, _WAVINESS, len(_WAVES)) / np.sqrt(_WAVES),
        rng.uniform(0, 2 * np.pi, len(_WAVES)),
        float(np.exp(rng.normal(0, 0.45))),
    )


def _place(
    rng: np.random.Generator, size: tuple[int, int], radius: tuple[float, float], cells: Sequence[Cell]
) -> tuple[float, float]:
    """Anywhere, or beside a nucleus that is there."""
    if cells and rng.random() < _CLUMP:
        other, angle = cells[int(rng.integers(len(cells)))], rng.uniform(0, 2 * np.pi)
        away = other.radius + rng.uniform(*radius)
        return other.middle[0] + away * np.sin(angle), other.middle[1] + away * np.cos(angle)
    y, x = rng.uniform(-2, np.array(size) + 2)
    return float(y), float(x)


def _distance(a: Cell, b: Cell) -> float:
    return float(np.hypot(a.middle[0] - b.middle[0], a.middle[1] - b.middle[1]))


def _emission(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light by depth: flat inside, falling over the outer third, where a nucleus is thin."""
    return np.sqrt(np.clip((1 - depth) / 0.35, 0, 1))


def _speck(rng: np.random.Generator, light: NDArray[np.float64]) -> None:
    """Add a small bright speck that is no nucleus."""
    y, x = (int(rng.integers(n)) for n in light.shape)
    width = rng.uniform(0.8, 2.0)
    frame = tuple(slice(max(p - 7, 0), p + 8) for p in (y, x))
    grid = np.mgrid[frame[0].start : min(y + 8, light.shape[0]), frame[1].start : min(x + 8, light.shape[1])]
    square = (grid[0] - y) ** 2 + (grid[1] - x) ** 2
    light[frame] += rng.uniform(0.6, 2.5) * np.exp(-square / (2 * width**2))
