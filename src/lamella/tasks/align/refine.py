"""Refines a field on the images themselves: steps that raise the local correlation, where there is correlation to go by.

What a net leaves of a displacement, some tenths of a pixel, a few steps on the loss that it was trained with remove. With images
``a`` (the source as aligned so far) and ``b`` of zero mean and unit variance in windows, one minus their correlation is half the
mean of (b - a)², so a step of Gauss and Newton on it solves

    mean of w g gᵀ · step = mean of w g (b - a)          in a wide window about each place, g the gradient of (a + b) / 2

(Lucas and Kanade 1981, with the gradient of both images as in Vercauteren et al. 2009, which needs half the steps). The weights
``w`` are 0 where data is missing and small where the images disagree (Geman and McClure), so that debris has little say. Windows
take the part of the smoothness penalty: they are Gaussian, made by diffusion that does not cross what is torn and hardly crosses
jumps of the field.

The first steps are taken on images of a quarter of the size in windows that are as much wider: there a gradient tells of more than a pixel,
and what different sections share is mostly coarse.

What neighbours do not share cannot be aligned: a net invents some motion there, and a search far more. So before the first step
each place is given a trust from 0 to 1, by how well the sections as the net aligned them correlate in a wide window: ``least`` and
below is 0, ``sure`` and above 1. What is not trusted is replaced by the smooth continuation of what is, and steps are scaled by the
trust. A correlation that the steps have made is no evidence for them, so the trust stays as it was.

Every value depends on its surroundings only, and not on where a tile ends.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.tasks.align.compared import CONTRAST, GRID, Compared, Field, Flows, Map, Seen, spread
from lamella.tasks.align.leaps import leapt
from lamella.tasks.align.refine_settings import RefineSettings

LIMIT = 1.0  # pixels; the longest step, as far as a gradient tells of what is beyond it
_DISSENT = 1.0  # difference of two images of unit variance from which on a pixel loses its say
_NOISE = 2e-3  # squared gradient, far below that of tissue, that keeps steps small where there is no texture
_STRAIN = 1.0  # pixels by which a field changes from place to place of the grid where windows spread half as freely
_DOUBT = 0.03  # weight of what is not trusted at all, so that it is smooth where nothing near it is trusted either
_LEAPS = (6, 3)  # places of the grid over which vectors are taken from one side to the other, in turn


def reach(settings: RefineSettings) -> int:
    """Pixels beyond where the field looks that a source must have on each side."""
    return CONTRAST + math.ceil((settings.broad + settings.steps + settings.leaps) * LIMIT) + 1


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
    """``field`` after the steps of ``settings``; it lies on a grid ``levels`` halvings coarser than the images, in its own pixels.

    Images are in [0, 1], 0 where data is missing. ``source`` is ``margin`` pixels, a multiple of 4, larger than ``target`` on each side.
    ``torn`` is 1 on pixels of the field across which it may jump.
    """
    if settings.steps == 0:
        return field
    pair = Compared(Seen.of(source), Seen.of(target), levels, margin)
    barred = None if torn is None else _coarsened(torn, levels, pair.size)
    trust = _trust(pair, field, settings)
    field = _calmed(pair, field, trust, barred, settings.calm)
    halved = pair.halved() if settings.leaps or settings.broad else pair
    quarter = halved.halved() if settings.broad else pair
    for _ in range(settings.broad):
        at = pair.on_grid(field)
        field = field + pair.on_field(trust * _step(quarter, at, _flows(at, barred), settings.broad_window), field)
    for i in range(settings.leaps + settings.steps):
        flows = _flows(pair.on_grid(field), barred)
        field = field + pair.on_field(trust * _step(pair, field, flows, settings.window), field)
        if i < settings.leaps:
            at = pair.on_grid(field)
            field = field + pair.on_field(leapt(halved, at, trust, _LEAPS[i % len(_LEAPS)]) - at, field)
    return field


def _step(pair: Compared, field: Float[Tensor, "b 2 hf wf"], flows: Flows, window: float) -> Field:
    """One step, on the grid, from where ``field`` has ``pair`` look."""
    step = _solve(pair.windows(_equations(*pair.compared(field)), flows, window)) / 2**pair.grid
    length = 2**GRID * step.square().sum(1, keepdim=True).sqrt()
    return step * (LIMIT / length.clamp_min(LIMIT))


def _trust(pair: Compared, field: Float[Tensor, "b 2 hc wc"], settings: RefineSettings) -> Float[Tensor, "b 1 h2 w2"]:
    """0 to 1 by how well the images correlate around each place of the grid."""
    correlation = pair.correlation(field, settings.evidence)
    return ((correlation - settings.least) / (settings.sure - settings.least)).clamp(0, 1)


def _calmed(
    pair: Compared, field: Float[Tensor, "b 2 hc wc"], trust: Map, barred: Map | None, sigma: float
) -> Float[Tensor, "b 2 hc wc"]:
    """The field with what is not trusted replaced by the smooth continuation of what is."""
    if sigma == 0:
        return field
    weight = trust + _DOUBT
    flows = None if barred is None else _open(barred)
    sums = spread(torch.cat([pair.on_grid(field) * weight, weight], 1), flows, sigma)
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


def _coarsened(torn: Float[Tensor, "b 1 hc wc"], levels: int, size: tuple[int, int]) -> Map:
    """A torn map of the field's grid on the grid of windows, which has ``size``."""
    if levels <= GRID:
        return F.max_pool2d(torn, 2 ** (GRID - levels), ceil_mode=True)
    times = 2 ** (levels - GRID)
    return torn.repeat_interleave(times, -2).repeat_interleave(times, -1)[..., : size[0], : size[1]]


def _open(barred: Map) -> Flows:
    """1 between places of the grid that are not torn, along y and x."""
    whole = 1 - barred
    return whole[..., 1:, :] * whole[..., :-1, :], whole[..., 1:] * whole[..., :-1]


def _flows(field: Field, barred: Map | None) -> Flows:
    """How freely windows spread from each place of the grid to the next, along y and x: 1 freely, 0 not at all."""
    side = 2**GRID / _STRAIN
    down = 1 / (1 + ((field[..., 1:, :] - field[..., :-1, :]) * side).square().sum(1, keepdim=True))
    right = 1 / (1 + ((field[..., 1:] - field[..., :-1]) * side).square().sum(1, keepdim=True))
    if barred is None:
        return down, right
    open_down, open_right = _open(barred)
    return down * open_down, right * open_right
