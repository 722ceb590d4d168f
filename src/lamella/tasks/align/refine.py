"""Refines a field on the images themselves: steps that raise the local correlation, where there is correlation to go by.

A net answers in a quarter of a second what a search would take minutes for, but to half a pixel. From there a few steps on the
same loss end at a tenth. With images ``a`` (the source as aligned so far) and ``b`` of zero mean and unit variance in windows,
one minus their correlation is half the mean of (b - a)², so a step of Gauss and Newton on it solves

    mean of w g gᵀ · step = mean of w g (b - a)          in a wide window about each place, g the gradient of (a + b) / 2

(Lucas and Kanade 1981, with the gradient of both images as in Vercauteren et al. 2009, which needs half the steps). The weights
``w`` are 0 where data is missing and small where the images disagree (Geman and McClure), so that debris has little say. Windows
take the part of the smoothness penalty: they are Gaussian, made by diffusion that does not cross what is torn and hardly crosses
jumps of the field.

What neighbours do not share cannot be aligned: a net invents some motion there, and a search far more. So before the first step
each place is given a trust from 0 to 1, by how well the sections as the net aligned them correlate in a wide window: ``least`` and
below is 0, ``sure`` and above 1. What is not trusted is replaced by the smooth continuation of what is, and steps are scaled by the
trust. A correlation that the steps have made is no evidence for them, so the trust stays as it was.

Every value depends on its surroundings only, and not on where a tile ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.ops.field import rescale, warp
from lamella.ops.masks import box_mean, erode
from lamella.tasks.align.refine_settings import RefineSettings

Map = Float[Tensor, "b 1 h w"]
Maps = Float[Tensor, "b c h w"]
Field = Float[Tensor, "b 2 h w"]
Flows = tuple[Tensor, Tensor]

CONTRAST = 12  # radius in pixels of the windows in which images get zero mean and unit variance
LIMIT = 1.0  # pixels; the longest step, as far as a gradient tells of what is beyond it
_GRID = 2  # halvings at which windows are computed: they are wide, and a sixteenth of the pixels shows them as well
_FLAT = 1e-4  # variance of windows in which there is nothing to see
_DISSENT = 1.0  # difference of two images of unit variance from which on a pixel loses its say
_NOISE = 2e-3  # squared gradient, far below that of tissue, that keeps steps small where there is no texture
_STRAIN = 1.0  # pixels by which a field changes from place to place of the grid where windows spread half as freely
_DOUBT = 0.03  # weight of what is not trusted at all, so that it is smooth where nothing near it is trusted either
_STEP = 0.2  # of explicit diffusion; stable below a quarter


def reach(settings: RefineSettings) -> int:
    """Pixels beyond where the field looks that a source must have on each side."""
    return CONTRAST + math.ceil(settings.steps * LIMIT) + 1


def refine(
    field: Float[Tensor, "b 2 hc wc"],
    source: Float[Tensor, "b 1 hs ws"],
    target: Map,
    levels: int,
    settings: RefineSettings,
    *,
    margin: int = 0,
    torn: Float[Tensor, "b 1 hc wc"] | None = None,
) -> Float[Tensor, "b 2 hc wc"]:
    """``field`` after ``settings.steps`` steps; it lies on a grid ``levels`` halvings coarser than the images, in its own pixels.

    Images are in [0, 1], 0 where data is missing. ``source`` is ``margin`` pixels larger than ``target`` on each side. ``torn`` is 1 on
    pixels of the field across which it may jump.
    """
    if settings.steps == 0:
        return field
    pair = _Pair(_Seen.of(source), _Seen.of(target), levels, margin)
    barred = None if torn is None else _coarsened(torn, levels, pair.size)
    trust = _trust(pair.compared(field), settings)
    field = _calmed(pair, field, trust, barred, settings.calm)
    for _ in range(settings.steps):
        flows = _flows(pair.on_grid(field), barred)
        step = trust * _solve(_spread(_shrunk(_equations(*pair.compared(field))), flows, settings.window))
        length = step.square().sum(1, keepdim=True).sqrt()
        step = step * (LIMIT / length.clamp_min(LIMIT)) / 2**_GRID
        field = field + pair.on_field(step, field)
    return field


class _Seen:
    """An image with zero mean and unit variance in windows, and 1 where there is data."""

    def __init__(self, image: Map, present: Map) -> None:
        self.image, self.present = image, present

    @classmethod
    def of(cls, image: Map) -> _Seen:
        present = (image > 0).to(image.dtype)
        share = box_mean(present, CONTRAST).clamp_min(1e-3)
        mean = box_mean(image * present, CONTRAST) / share
        variance = (box_mean(image * image * present, CONTRAST) / share - mean * mean).clamp_min(0)
        return cls((image - mean) * (variance + _FLAT).rsqrt() * present, present)


@dataclass(frozen=True)
class _Pair:
    """Two images, of which the first is looked at through fields ``levels`` halvings coarser, and the grid of windows."""

    moving: _Seen
    fixed: _Seen
    levels: int
    margin: int

    @property
    def size(self) -> tuple[int, int]:
        """Of the grid."""
        h, w = self.fixed.image.shape[-2:]
        return -(-h // 2**_GRID), -(-w // 2**_GRID)

    def compared(self, field: Float[Tensor, "b 2 hc wc"]) -> tuple[Map, Map, Map]:
        """The first image as moved by ``field``, the second, and 1 where there is data of both."""
        h, w = self.fixed.image.shape[-2:]
        where = rescale(field, self.levels, (h, w)) + self.margin
        seen = warp(torch.cat([self.moving.image, self.moving.present], 1), where)
        both = (seen[:, 1:] > 0.99).to(seen.dtype) * self.fixed.present
        return seen[:, :1], self.fixed.image, erode(both, 1)

    def on_grid(self, field: Float[Tensor, "b 2 hc wc"]) -> Field:
        return rescale(field, self.levels - _GRID, self.size)

    def on_field(self, field: Field, like: Float[Tensor, "b 2 hc wc"]) -> Float[Tensor, "b 2 hc wc"]:
        """A field of the grid on that of ``like``."""
        return rescale(field, _GRID - self.levels, (like.shape[-2], like.shape[-1]))


def _trust(compared: tuple[Map, Map, Map], settings: RefineSettings) -> Float[Tensor, "b 1 h2 w2"]:
    """0 to 1 by how well the images correlate around each place of the grid."""
    a, b, both = compared
    ab, aa, bb = _spread(_shrunk(torch.cat([a * b, a * a, b * b], 1) * both), None, settings.evidence).split(1, 1)
    correlation = ab / (aa * bb).sqrt().clamp_min(1e-3)
    return ((correlation - settings.least) / (settings.sure - settings.least)).clamp(0, 1)


def _calmed(
    pair: _Pair, field: Float[Tensor, "b 2 hc wc"], trust: Map, barred: Map | None, sigma: float
) -> Float[Tensor, "b 2 hc wc"]:
    """The field with what is not trusted replaced by the smooth continuation of what is."""
    if sigma == 0:
        return field
    weight = trust + _DOUBT
    flows = None if barred is None else _open(barred)
    sums = _spread(torch.cat([pair.on_grid(field) * weight, weight], 1), flows, sigma)
    smooth = sums[:, :2] / sums[:, 2:]
    share = F.interpolate(trust, field.shape[-2:], mode="bilinear") if field.shape[-2:] != trust.shape[-2:] else trust
    return share * field + (1 - share) * pair.on_field(smooth, field)


def _equations(a: Map, b: Map, both: Map) -> Float[Tensor, "b 5 h w"]:
    """w gy gy, w gy gx, w gx gx, w gy (b - a), w gx (b - a) of each pixel."""
    mean = (a + b) / 2
    gy = F.pad(mean[..., 2:, :] - mean[..., :-2, :], (0, 0, 1, 1)) / 2
    gx = F.pad(mean[..., 2:] - mean[..., :-2], (1, 1)) / 2
    gap = b - a
    weight = both / (1 + (gap / _DISSENT) ** 2)
    return torch.cat([gy * gy, gy * gx, gx * gx, gy * gap, gx * gap], 1) * weight


def _solve(sums: Float[Tensor, "b 5 h w"]) -> Field:
    """The step in pixels of the images that the summed equations give."""
    yy, yx, xx, y, x = sums.split(1, 1)
    yy, xx = yy + _NOISE, xx + _NOISE
    return torch.cat([xx * y - yx * x, yy * x - yx * y], 1) / (yy * xx - yx * yx)


def _shrunk(values: Maps) -> Float[Tensor, "b c h2 w2"]:
    """Means over the grid's squares; what squares at the edges lack counts as 0."""
    side = 2**_GRID
    h, w = values.shape[-2:]
    return F.avg_pool2d(F.pad(values, (0, -w % side, 0, -h % side)), side)


def _coarsened(torn: Float[Tensor, "b 1 hc wc"], levels: int, size: tuple[int, int]) -> Map:
    """A torn map of the field's grid on the grid of windows, which has ``size``."""
    if levels <= _GRID:
        return F.max_pool2d(torn, 2 ** (_GRID - levels), ceil_mode=True)
    times = 2 ** (levels - _GRID)
    return torn.repeat_interleave(times, -2).repeat_interleave(times, -1)[..., : size[0], : size[1]]


def _open(barred: Map) -> Flows:
    """1 between places of the grid that are not torn, along y and x."""
    whole = 1 - barred
    return whole[..., 1:, :] * whole[..., :-1, :], whole[..., 1:] * whole[..., :-1]


def _flows(field: Field, barred: Map | None) -> Flows:
    """How freely windows spread from each place of the grid to the next, along y and x: 1 freely, 0 not at all."""
    side = 2**_GRID / _STRAIN
    down = 1 / (1 + ((field[..., 1:, :] - field[..., :-1, :]) * side).square().sum(1, keepdim=True))
    right = 1 / (1 + ((field[..., 1:] - field[..., :-1]) * side).square().sum(1, keepdim=True))
    if barred is None:
        return down, right
    open_down, open_right = _open(barred)
    return down * open_down, right * open_right


def _spread(values: Maps, flows: Flows | None, sigma: float) -> Maps:
    """``values`` averaged over Gaussian windows of ``sigma`` pixels of the images: by diffusion along ``flows``, or freely by boxes."""
    variance = (sigma / 2**_GRID) ** 2
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
