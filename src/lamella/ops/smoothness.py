"""Smoothness penalties: how much a field bends, pixel by pixel.

Fields are ``(b, 2, h, w)`` in pixels. A penalty gives a map ``(b, 1, h, w)``, 0 for a translation; reduce it with
``similarity.weighted_mean``. Because fields are in pixels and the mean is divided by the weights, a weight keeps its meaning when
the image size changes. The seeds summed over pixels in units of half an image instead; their λ1 corresponds to about 4 λ1
here for ``jacob`` at any size.

Differences are central and two pixels apart (not halved), as in the original; the outermost pixels, where no such
difference exists, are 0.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from torch import Tensor
from torch.nn import functional as F

from lamella.core.config import Config

Field = Float[Tensor, "b 2 h w"]
Map = Float[Tensor, "b 1 h w"]


def _central(field: Field) -> tuple[Tensor, Tensor]:
    dy = F.pad(field[..., 2:, :] - field[..., :-2, :], (0, 0, 1, 1))
    dx = F.pad(field[..., :, 2:] - field[..., :, :-2], (1, 1, 0, 0))
    return dy, dx


def _inner(values: Map) -> Map:
    return F.pad(values[..., 1:-1, 1:-1], (1, 1, 1, 1))


class Jacobian(Config):
    """Squared central differences, summed over components and axes: the seed's default."""

    kind: Literal["jacob"] = "jacob"

    def __call__(self, field: Field) -> Map:
        dy, dx = _central(field)
        return (dy**2 + dx**2).sum(1, keepdim=True)


class CentredJacobian(Config):
    """Like ``jacob``, each difference less its own mean over the image: shear, scale and rotation of the whole are free."""

    kind: Literal["cjacob"] = "cjacob"

    def __call__(self, field: Field) -> Map:
        dy, dx = _central(field)
        dy = F.pad(dy[..., 1:-1, :] - dy[..., 1:-1, :].mean((-2, -1), keepdim=True).detach(), (0, 0, 1, 1))
        dx = F.pad(dx[..., :, 1:-1] - dx[..., :, 1:-1].mean((-2, -1), keepdim=True).detach(), (1, 1, 0, 0))
        return (dy**2 + dx**2).sum(1, keepdim=True)


class Laplacian(Config):
    """Squared distance of each vector from the mean of its four neighbours: every affine field is free."""

    kind: Literal["lap"] = "lap"

    def __call__(self, field: Field) -> Map:
        mean = (field[..., 2:, 1:-1] + field[..., :-2, 1:-1] + field[..., 1:-1, 2:] + field[..., 1:-1, :-2]) / 4
        return F.pad(((field[..., 1:-1, 1:-1] - mean) ** 2).sum(1, keepdim=True), (1, 1, 1, 1))


class TotalVariation(Config):
    """Absolute central differences: jumps cost no more than ramps of the same height."""

    kind: Literal["tv"] = "tv"

    def __call__(self, field: Field) -> Map:
        dy, dx = _central(field)
        return (dy.abs() + dx.abs()).sum(1, keepdim=True)


class Rigidity(Config):
    """Springs to the eight neighbours: squared change of their lengths, so that rotations are free (metroem, corgie)."""

    kind: Literal["rigidity"] = "rigidity"
    power: float = Setting(2.0, ge=1.0, description="exponent of the change of length")

    def __call__(self, field: Field) -> Map:
        h, w = field.shape[-2:]
        centre = field[..., 1:-1, 1:-1]
        total = torch.zeros_like(centre[:, :1])
        for oy, ox in product((-1, 0, 1), (-1, 0, 1)):
            if (oy, ox) == (0, 0):
                continue
            rest = torch.tensor([oy, ox], dtype=field.dtype, device=field.device).view(1, 2, 1, 1)
            spring = field[..., 1 + oy : h - 1 + oy, 1 + ox : w - 1 + ox] - centre + rest
            change = (spring.square().sum(1, keepdim=True) + 1e-12).sqrt() - rest.square().sum().sqrt()
            total = total + (change.abs() + 1e-12) ** self.power
        return F.pad(total / 8, (1, 1, 1, 1))


Smoothness = Annotated[
    Jacobian | CentredJacobian | Laplacian | TotalVariation | Rigidity, Setting(discriminator="kind")
]
