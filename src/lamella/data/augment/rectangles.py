"""Turned rectangles at random places: the shape of all cutouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from lamella.data.augment.base import happens

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Rectangles:
    """Up to k rectangles per image.

    count: ``(b, c)``, how many of the k are there. centre, half: ``(b, c, k, 2)``, pixels, y and x; half-sides before turning.
    angle: ``(b, c, k)``, radians.
    """

    count: NDArray[np.int64]
    centre: NDArray[np.float64]
    half: NDArray[np.float64]
    angle: NDArray[np.float64]

    def present(self, plane: tuple[int, int]) -> Iterator[tuple[tuple[int, int, int], Window]]:
        """Index ``(b, c, k)`` and the smallest upright window inside ``plane`` of every rectangle, one after another."""
        cos, sin = np.abs(np.cos(self.angle)), np.abs(np.sin(self.angle))
        reach = np.stack(
            [self.half[..., 0] * cos + self.half[..., 1] * sin, self.half[..., 0] * sin + self.half[..., 1] * cos], -1
        )
        low = np.maximum(np.ceil(self.centre - reach), 0).astype(int)
        high = np.minimum(np.floor(self.centre + reach) + 1, plane).astype(int)
        for b, c, k in np.argwhere(np.arange(self.angle.shape[-1]) < self.count[..., None]):
            (y0, x0), (y1, x1) = low[b, c, k], high[b, c, k]
            if y0 < y1 and x0 < x1:
                yield (int(b), int(c), int(k)), (slice(int(y0), int(y1)), slice(int(x0), int(x1)))

    def inside(self, index: tuple[int, int, int], window: Window, device: torch.device) -> Bool[Tensor, "h w"]:
        """Which pixels of ``window`` the rectangle covers."""
        (cy, cx), (hy, hx) = self.centre[index], self.half[index]
        cos, sin = float(np.cos(self.angle[index])), float(np.sin(self.angle[index]))
        y = torch.arange(window[0].start, window[0].stop, dtype=torch.float32, device=device)[:, None] - float(cy)
        x = torch.arange(window[1].start, window[1].stop, dtype=torch.float32, device=device) - float(cx)
        along, across = y * cos + x * sin, x * cos - y * sin
        return (along.abs_() <= float(hy)) & (across.abs_() <= float(hx))


def draw_rectangles(
    rng: np.random.Generator, shape: tuple[int, int], plane: tuple[int, int], p: float, most: int
) -> Rectangles:
    """1 to ``most`` rectangles in each image that has any (probability p): sides from 1 pixel to half the image's shorter side,
    any angle, centres anywhere in ``plane``.
    """
    many = (*shape, most)
    count = rng.integers(1, most, shape, endpoint=True) * happens(rng, p, shape)
    half = rng.uniform(1, max(1.0, min(plane) / 2), (*many, 2)) / 2
    centre = rng.uniform(0, 1, (*many, 2)) * plane
    return Rectangles(count, centre, half, rng.uniform(0, 2 * np.pi, many))


def plane_of(shape: Any) -> tuple[int, int]:
    """Height and width of a tensor's shape or of a space."""
    return int(shape[-2]), int(shape[-1])
