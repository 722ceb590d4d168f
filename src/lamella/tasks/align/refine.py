"""Refines a field on the images themselves: steps that raise the local correlation, where there is correlation to go by.

A net answers in a quarter of a second what a search would take minutes for, but to half a pixel. From there a few steps on the
same loss end at a tenth. With images ``a`` (the source as aligned so far) and ``b`` of zero mean and unit variance in windows,
one minus their correlation is half the mean of (b - a)², so a step of Gauss and Newton on it solves

    mean of w g gᵀ · step = mean of w g (b - a)          in a wide window about each place, g the gradient of (a + b) / 2

(Lucas and Kanade 1981, with the gradient of both images as in Vercauteren et al. 2009, which needs half the steps). The weights
``w`` are 0 where data is missing and small where the images disagree (Geman and McClure), so that debris has little say. Windows
take the part of the smoothness penalty: they are Gaussian, made by diffusion that does not cross what is torn and hardly crosses
jumps of the field.

What neighbours do not share cannot be aligned, and a search would invent motion there. So a step is scaled by how well the
sections correlate in a wide window *before* the first step: not at all up to ``least``, in full from ``sure`` on. A correlation that
the steps have made is no evidence for them.

Every value depends on its surroundings only, and not on where a tile ends.
"""

from __future__ import annotations

import math

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

CONTRAST = 12  # radius in pixels of the windows in which images get zero mean and unit variance
LIMIT = 1.0  # pixels; the longest step, as far as a gradient tells of what is beyond it
_EVIDENCE = 16.0  # pixels (standard deviation) over which it is judged whether sections correlate
_GRID = 2  # halvings at which windows are computed: they are wide, and a sixteenth of the pixels shows them as well
_FLAT = 1e-4  # variance of windows in which there is nothing to see
_DISSENT = 1.0  # difference of two images of unit variance from which on a pixel loses its say
_NOISE = 2e-3  # squared gradient, far below that of tissue, that keeps steps small where there is no texture
_STRAIN = 1.0  # pixels by which a field changes from place to place of the grid where windows spread half as freely
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
    moving, fixed = _Seen.of(source), _Seen.of(target)
    size = tuple(-(-n // 2**_GRID) for n in target.shape[-2:])
    barred = None if torn is None else _coarsened(torn, levels, size)
    trust = None
    for _ in range(settings.steps):
        aligned = moving.warped(rescale(field, levels, (target.shape[-2], target.shape[-1])) + margin)
        both = erode(aligned.present * fixed.present, 1)
        flows = _flows(rescale(field, levels - _GRID, size), barred)
        if trust is None:
            trust = _trust(aligned.image, fixed.image, both, flows, settings)
        sums = _shrunk(_equations(aligned.image, fixed.image, both))
        step = trust * _solve(_spread(sums, flows, settings.window))
        length = step.square().sum(1, keepdim=True).sqrt()
        step = step * (LIMIT / length.clamp_min(LIMIT)) / 2**_GRID
        field = field + rescale(step, _GRID - levels, (field.shape[-2], field.shape[-1]))
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

    def warped(self, field: Field) -> _Seen:
        seen = warp(torch.cat([self.image, self.present], 1), field)
        return _Seen(seen[:, :1], (seen[:, 1:] > 0.99).to(seen.dtype))


def _trust(
    a: Map, b: Map, both: Map, flows: tuple[Tensor, Tensor], settings: RefineSettings
) -> Float[Tensor, "b 1 h2 w2"]:
    """0 to 1 by how well the images correlate around each place of the grid."""
    sums = _shrunk(torch.cat([a * b, a * a, b * b], 1) * both)
    ab, aa, bb = _spread(sums, flows, _EVIDENCE).split(1, 1)
    correlation = ab / (aa * bb).sqrt().clamp_min(1e-3)
    return ((correlation - settings.least) / (settings.sure - settings.least)).clamp(0, 1)


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


def _flows(field: Field, barred: Map | None) -> tuple[Tensor, Tensor]:
    """How freely windows spread from each place of the grid to the next, along y and x: 1 freely, 0 not at all."""
    side = 2**_GRID / _STRAIN
    down = 1 / (1 + ((field[..., 1:, :] - field[..., :-1, :]) * side).square().sum(1, keepdim=True))
    right = 1 / (1 + ((field[..., 1:] - field[..., :-1]) * side).square().sum(1, keepdim=True))
    if barred is not None:
        whole = 1 - barred
        down = down * whole[..., 1:, :] * whole[..., :-1, :]
        right = right * whole[..., 1:] * whole[..., :-1]
    return down, right


def _spread(values: Maps, flows: tuple[Tensor, Tensor], sigma: float) -> Maps:
    """``values`` averaged over Gaussian windows of ``sigma`` pixels of the images, by diffusion along ``flows``."""
    down, right = flows[0] * _STEP, flows[1] * _STEP
    for _ in range(round((sigma / 2**_GRID) ** 2 / (2 * _STEP))):
        along_y = (values[..., 1:, :] - values[..., :-1, :]) * down
        along_x = (values[..., 1:] - values[..., :-1]) * right
        values = values + F.pad(along_y, (0, 0, 0, 1)) - F.pad(along_y, (0, 0, 1, 0))
        values = values + F.pad(along_x, (0, 1)) - F.pad(along_x, (1, 0))
    return values
