"""How much a field found for a pair of sections is worth, pixel by pixel.

The net looks once more at the pair as the field leaves it, in both directions. Where the field is right there is nothing left to find,
what it would still do there and back cancels, and the images correlate.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.nets.aligner import SiamesePyramid
from lamella.ops.field import rescale, warp
from lamella.ops.masks import box_mean, erode

Image = Float[Tensor, "1 1 h w"]
Map = Float[Tensor, "1 1 hc wc"]

_AGREED = 1.0  # pixels of disagreement between there and back at which a field is worth half
_WINDOW = 16  # pixels on each side over which the images are correlated
_RIM = 4  # pixels beside missing data where a net sees too little to be believed
_LEAST = 0.02  # correlation below which a match is not told from chance, and worth the same


def confidence(net: SiamesePyramid, source: Image, target: Image, level: int) -> Map:
    """0 to 1 on the grid of ``level``, for a ``source`` that was warped onto its ``target``; 0 where either is missing (0), or nearly.

    The square of their local correlation, times 1 / (1 + d²), d being the pixels by which the net's answers there and back differ.
    """
    moving, fixed = net.encode(source), net.encode(target)
    apart = net.align(moving, fixed)[level] + net.align(fixed, moving)[level]
    off = apart.square().sum(1, keepdim=True) * 4**level
    present, alike = _correlation(source, target, level)
    there = erode((present >= 0.5).to(source.dtype), max(1, _RIM >> level))
    return there * alike.clamp(_LEAST, 1).square() / (1 + off / _AGREED**2)


def _correlation(source: Image, target: Image, level: int) -> tuple[Map, Map]:
    """On the grid of ``level``: the share of pixels that both images have, and the local correlation of those."""
    have = ((source != 0) & (target != 0)).to(source.dtype)
    x, y = source * have, target * have
    pooled = F.avg_pool2d(torch.cat([have, x, y, x * x, y * y, x * y], 1), 2**level, ceil_mode=True)
    mass, sx, sy, sxx, syy, sxy = box_mean(pooled, max(1, _WINDOW >> level)).split(1, 1)
    mass = mass.clamp_min(1e-6)
    mx, my = sx / mass, sy / mass
    spread = (sxx / mass - mx**2).clamp_min(1e-6) * (syy / mass - my**2).clamp_min(1e-6)
    return pooled[:, :1], (sxy / mass - mx * my) / spread.sqrt()


def moved(
    source: Float[Tensor, "1 1 hs ws"],
    field: Float[Tensor, "1 2 hc wc"],
    level: int,
    size: tuple[int, int],
    margin: int,
) -> Image:
    """The source, ``margin`` pixels larger on each side than ``size``, warped by a field of the grid of ``level``."""
    return warp(source, rescale(field, level, size) + margin)
