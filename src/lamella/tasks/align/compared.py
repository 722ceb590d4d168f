"""Two images seen through a field, compared in windows: what refinement looks at.

Windows are wide, so they are computed on a grid two halvings coarser than the images, which shows them as well at a sixteenth of the
cost. Values of windows are maps of that grid; fields there are in its pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.ops.field import halve, rescale, warp
from lamella.ops.masks import box_mean, erode

Map = Float[Tensor, "b 1 h w"]
Maps = Float[Tensor, "b c h w"]
Field = Float[Tensor, "b 2 h w"]
Flows = tuple[Tensor, Tensor]

GRID = 2  # halvings
CONTRAST = 12  # radius in pixels of the windows in which images get zero mean and unit variance
_FLAT = 1e-4  # variance of windows in which there is nothing to see
_STEP = 0.2  # of explicit diffusion; stable below a quarter


class Seen:
    """An image with zero mean and unit variance in windows, and 1 where there is data."""

    def __init__(self, image: Map, present: Map) -> None:
        self.image, self.present = image, present

    @classmethod
    def of(cls, image: Map) -> Seen:
        present = (image > 0).to(image.dtype)
        share = box_mean(present, CONTRAST).clamp_min(1e-3)
        mean = box_mean(image * present, CONTRAST) / share
        variance = (box_mean(image * image * present, CONTRAST) / share - mean * mean).clamp_min(0)
        return cls((image - mean) * (variance + _FLAT).rsqrt() * present, present)

    def halved(self) -> Seen:
        """The same at half the size; what is there less than by half is missing."""
        share = halve(self.present)
        present = (share >= 0.5).to(share.dtype)
        return Seen(halve(self.image) / share.clamp_min(0.25) * present, present)


@dataclass(frozen=True)
class Compared:
    """Two images, of which the first is ``margin`` pixels larger on each side and looked at through fields.

    Fields are ``levels`` halvings coarser than the images, and the grid of windows ``grid`` halvings.
    """

    moving: Seen
    fixed: Seen
    levels: int
    margin: int
    grid: int = GRID

    def halved(self) -> Compared:
        """The same with images of half the size, looked at through fields of the grid; the margin must be even."""
        assert self.margin % 2 == 0
        return Compared(self.moving.halved(), self.fixed.halved(), self.grid - 1, self.margin // 2, self.grid - 1)

    @property
    def size(self) -> tuple[int, int]:
        """Of the grid."""
        h, w = self.fixed.image.shape[-2:]
        return -(-h // 2**self.grid), -(-w // 2**self.grid)

    def compared(self, field: Float[Tensor, "b 2 hc wc"]) -> tuple[Map, Map, Map]:
        """The first image as moved by ``field``, the second, and 1 where there is data of both."""
        h, w = self.fixed.image.shape[-2:]
        where = rescale(field, self.levels, (h, w)) + self.margin
        seen = warp(torch.cat([self.moving.image, self.moving.present], 1), where)
        both = (seen[:, 1:] > 0.99).to(seen.dtype) * self.fixed.present
        return seen[:, :1], self.fixed.image, erode(both, 1)

    def windows(self, values: Maps, flows: Flows | None, sigma: float) -> Float[Tensor, "b c h2 w2"]:
        """Means of pixels' values in windows about each place of the grid; beyond the edges they count as 0."""
        side = 2**self.grid
        h, w = values.shape[-2:]
        return spread(F.avg_pool2d(F.pad(values, (0, -w % side, 0, -h % side)), side), flows, sigma)

    def correlation(self, field: Float[Tensor, "b 2 hc wc"], sigma: float) -> Float[Tensor, "b 1 h2 w2"]:
        """Of the images, in windows about each place of the grid; 0 where there is nothing of one of them."""
        a, b, both = self.compared(field)
        ab, aa, bb = self.windows(torch.cat([a * b, a * a, b * b], 1) * both, None, sigma).split(1, 1)
        return ab / (aa * bb).sqrt().clamp_min(1e-3)

    def on_grid(self, field: Float[Tensor, "b 2 hc wc"]) -> Field:
        return rescale(field, self.levels - self.grid, self.size)

    def on_field(self, field: Field, like: Float[Tensor, "b 2 hc wc"]) -> Float[Tensor, "b 2 hc wc"]:
        """A field of the grid on that of ``like``."""
        return rescale(field, self.grid - self.levels, (like.shape[-2], like.shape[-1]))


def spread(values: Maps, flows: Flows | None, sigma: float) -> Maps:
    """``values`` averaged over Gaussian windows of ``sigma`` pixels of the images: by diffusion along ``flows``, or freely by boxes."""
    variance = (sigma / 2**GRID) ** 2
    if flows is None:
        radius = round((math.sqrt(4 * variance + 1) - 1) / 2)  # three boxes of r + 1 + r have a variance of r (r + 1)
        return box_mean(box_mean(box_mean(values, radius), radius), radius)
    down, right = flows[0] * _STEP, flows[1] * _STEP
    for _ in range(round(variance / (2 * _STEP))):
        along_y = (values[..., 1:, :] - values[..., :-1, :]) * down
        along_x = (values[..., 1:] - values[..., :-1]) * right
        values = values + F.pad(along_y, (0, 0, 0, 1)) - F.pad(along_y, (0, 0, 1, 0))
        values = values + F.pad(along_x, (0, 1)) - F.pad(along_x, (1, 0))
    return values


def halved(image: Map) -> Float[Tensor, "b 1 h2 w2"]:
    """An image at half the size: the mean of what is not missing, and missing (0) where most is."""
    present = halve((image > 0).to(image.dtype))
    return torch.where(present >= 0.5, halve(image) / present.clamp_min(0.25), 0)
