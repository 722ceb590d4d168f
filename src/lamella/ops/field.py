"""Displacement fields: what they mean and the algebra they obey.

A field is a tensor ``(b, 2, h, w)`` in **pixels** of the mip it was estimated at, ``(dy, dx)``, on the **target** grid: it
tells each output pixel where to look,

    warp(image, f)(p) = image(p + f(p)).

Pixel centres lie on whole numbers. Halving an image puts the centre of coarse pixel ``i`` at fine coordinate ``2i + 0.5``;
``finer`` and ``coarser`` keep that, so fields stay true at odd sizes too.

Laws (tested): ``warp(x, 0) == x``; ``warp(warp(x, a), b) == warp(x, compose(a, b))`` up to interpolation;
``compose(f, invert(f)) == 0``; ``coarser(finer(f)) == f`` for linear fields.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Field = Float[Tensor, "b 2 h w"]
Padding = Literal["zeros", "border", "reflection"]
Mode = Literal["bilinear", "nearest", "bicubic"]


def identity_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "1 2 h w"]:
    """Pixel coordinates (y, x), with the dtype and device of ``like``."""
    y = torch.arange(height, dtype=like.dtype, device=like.device)
    x = torch.arange(width, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]


def warp(
    image: Float[Tensor, "b c hi wi"],
    field: Float[Tensor, "b 2 h w"],
    mode: Mode = "bilinear",
    padding: Padding = "zeros",
) -> Float[Tensor, "b c h w"]:
    """Look up ``image`` where ``field`` says; ``zeros`` reads 0, which is missing data, outside the image.

    The field may be smaller or larger than the image: its pixel (0, 0) looks from the image's pixel (0, 0).
    """
    h, w = image.shape[-2:]
    where = identity_grid(field.shape[-2], field.shape[-1], like=field) + field
    size = torch.tensor([h, w], dtype=field.dtype, device=field.device).view(1, 2, 1, 1)
    unit = (2 * where + 1) / size - 1
    grid = unit.flip(1).permute(0, 2, 3, 1)
    return F.grid_sample(image, grid.to(image.dtype), mode=mode, padding_mode=padding, align_corners=False)


def compose(first: Float[Tensor, "b 2 hs ws"], second: Field) -> Field:
    """The field that warps by ``first`` and then by ``second``: ``second(p) + first(p + second(p))``.

    ``first`` may be of another size; it is continued beyond its edge by its edge values.
    """
    return second + warp(first, second, padding="border")


def invert(field: Field, iterations: int = 30) -> Field:
    """The field that undoes ``field``, by the fixed point ``g(p) = -field(p + g(p))`` (Chen et al., Med. Phys. 2008).

    Converges where neighbouring pixels keep their order (no folds) and the field changes by less than a pixel per pixel; each
    step is averaged with the last, which widens that range.
    """
    inverse = -field
    for _ in range(iterations):
        inverse = 0.5 * (inverse - warp(field, inverse, padding="border"))
    return inverse


def finer(field: Field, size: tuple[int, int]) -> Float[Tensor, "b 2 h2 w2"]:
    """A field of the next finer mip, in that mip's pixels, cut to ``size`` (at most twice the field's own)."""
    up = F.interpolate(field, scale_factor=2, mode="bilinear", align_corners=False)
    return 2 * up[..., : size[0], : size[1]]


def coarser(field: Field) -> Float[Tensor, "b 2 h2 w2"]:
    """A field of the next coarser mip, in that mip's pixels; odd edges are averaged over what exists."""
    return 0.5 * F.avg_pool2d(field, 2, ceil_mode=True, count_include_pad=False)


def rescale(field: Field, levels: int, size: tuple[int, int]) -> Float[Tensor, "b 2 h2 w2"]:
    """``field`` brought ``levels`` mips finer (coarser if negative); ``size`` is that of the result's grid."""
    for _ in range(-levels):
        field = coarser(field)
    for level in range(levels - 1, -1, -1):
        field = finer(field, (-(-size[0] // 2**level), -(-size[1] // 2**level)))
    return field


def refined(field: Field, factors: tuple[int, int]) -> Float[Tensor, "b 2 h2 w2"]:
    """A field on a grid ``factors`` (y, x) times finer, in that grid's pixels: doubled as often as can be, then the odd rest at once.

    Unlike ``rescale``, whose last bits depend on where a field is cut, this gives for a part of it what it gives for the whole.
    """
    for axis, factor in enumerate(factors, 2):
        while factor % 2 == 0:
            field, factor = _between(field, 2, axis), factor // 2
        if factor > 1:
            field = _between(field, factor, axis)
    return field * torch.tensor(factors, dtype=field.dtype, device=field.device).view(1, 2, 1, 1)


def _between(field: Field, factor: int, axis: int) -> Float[Tensor, "b 2 h2 w2"]:
    """Linear interpolation along an axis, continued by the edge values. Products and sums are rounded one by one, so alike anywhere."""
    num, parts = field.shape[axis], []
    before = torch.cat([field.narrow(axis, 0, 1), field.narrow(axis, 0, num - 1)], axis)
    after = torch.cat([field.narrow(axis, 1, num - 1), field.narrow(axis, num - 1, 1)], axis)
    for i in range(factor):
        at = (i + 0.5) / factor - 0.5
        parts.append(field * (1 - abs(at)) + (before if at < 0 else after) * abs(at))
    return torch.stack(parts, axis + 1).flatten(axis, axis + 1)


def halve(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """An image of the next coarser mip (mean of 2×2); odd edges are averaged over what exists."""
    return F.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)


def differences(field: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Central differences per pixel along y and x (one-sided at the edges)."""
    dy, dx = torch.gradient(field, dim=(-2, -1))
    return dy, dx


def jacobian_determinant(field: Field) -> Float[Tensor, "b h w"]:
    """Area that an output pixel covers in the source: 1 without deformation, at most 0 where the field folds."""
    dy, dx = differences(field)
    return (1 + dy[:, 0]) * (1 + dx[:, 1]) - dx[:, 0] * dy[:, 1]


def fold_fraction(field: Field, valid: Float[Tensor, "b h w"] | None = None) -> Float[Tensor, " b"]:
    """Share of (valid) pixels where the field folds."""
    folded = (jacobian_determinant(field) <= 0).to(field.dtype)
    if valid is None:
        return folded.mean((-2, -1))
    return (folded * valid).sum((-2, -1)) / valid.sum((-2, -1)).clamp_min(1)


def rotate180(field: Field) -> Field:
    """The field of both images turned by 180°: places turn with them and vectors change sign. Its own inverse."""
    return -field.flip((-2, -1))


def smooth_field(rng: np.random.Generator, size: tuple[int, int], amplitude: float, spacing: float) -> Field:
    """A random smooth field ``(1, 2, *size)``: bicubic interpolation of a grid of normal control vectors.

    ``spacing`` is the distance of control points and ``amplitude`` the largest component, both in pixels. Amplitudes below
    about a fifth of the spacing do not fold.
    """
    nodes = [int(np.ceil(n / spacing)) + 4 for n in size]
    offset = rng.uniform(0, 1, 2)
    control = torch.from_numpy(rng.standard_normal((1, 2, *nodes)).astype(np.float32))
    centre = identity_grid(*size, like=control) / spacing
    shift = torch.tensor(1.0 + offset, dtype=torch.float32).view(1, 2, 1, 1)
    where = centre + shift - identity_grid(*size, like=control)
    field = warp(control, where, mode="bicubic", padding="border")
    return field * (amplitude / field.abs().amax().clamp_min(1e-6))
