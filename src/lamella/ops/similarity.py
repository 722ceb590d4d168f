"""Similarity penalties: how unlike two images are, pixel by pixel.

Images are ``(b, 1, h, w)`` in [0, 1]. A penalty gives a map ``(b, 1, h, w)``, 0 where the images agree; ``weighted_mean``
reduces it, dividing by the sum of the weights so that the value does not depend on how much of the image counts.

A penalty that ``compares`` encodings takes maps ``(b, c, h, w)`` that a net has made of the images.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from torch import Tensor
from torch.nn import functional as F

from lamella.core.config import Config

Map = Float[Tensor, "b c h w"]


def weighted_mean(values: Map, weights: Map) -> Float[Tensor, ""]:
    """The mean of ``values`` under ``weights``; 0 if nothing weighs anything."""
    return (values * weights).sum() / weights.sum().clamp_min(1e-6)


def smooth_box(values: Map, size: int) -> Map:
    """Mean over ``size`` × ``size`` pixels, over what exists at the border."""
    return F.avg_pool2d(values, size, 1, size // 2, count_include_pad=False)


class _Penalty(Config):
    compares: ClassVar[Literal["images", "encodings"]] = "images"


class MeanSquare(_Penalty):
    """Squared difference of intensities, the seed's penalty."""

    kind: Literal["mse"] = "mse"

    def __call__(self, a: Map, b: Map, valid: Map) -> Map:
        return (a - b) ** 2


class LocalCorrelation(_Penalty):
    """One minus the correlation in a window around each pixel: blind to local brightness and contrast (Avants et al. 2008).

    Invalid pixels are left out of the windows, so missing data does not leak into its neighbourhood.
    """

    kind: Literal["ncc"] = "ncc"
    window: int = Setting(9, ge=3, description="side of the window in pixels of the compared level, odd")
    floor: float = Setting(
        1e-4, gt=0, description="variance below which a window counts as flat and correlates with nothing"
    )

    def __call__(self, a: Map, b: Map, valid: Map) -> Map:
        mass = smooth_box(valid, self.window).clamp_min(1e-3)

        def mean(values: Map) -> Map:
            return smooth_box(values * valid, self.window) / mass

        ma, mb = mean(a), mean(b)
        va = (mean(a * a) - ma * ma).clamp_min(0) + self.floor
        vb = (mean(b * b) - mb * mb).clamp_min(0) + self.floor
        return 1 - (mean(a * b) - ma * mb) * torch.rsqrt(va * vb)


class StructuralSimilarity(_Penalty):
    """Half of one minus SSIM in a window (Wang et al. 2004): contrast and brightness count a little, structure most."""

    kind: Literal["ssim"] = "ssim"
    window: int = Setting(11, ge=3, description="side of the window in pixels of the compared level, odd")

    def __call__(self, a: Map, b: Map, valid: Map) -> Map:
        mass = smooth_box(valid, self.window).clamp_min(1e-3)

        def mean(values: Map) -> Map:
            return smooth_box(values * valid, self.window) / mass

        ma, mb = mean(a), mean(b)
        va, vb, vab = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
        c1, c2 = 0.01**2, 0.03**2
        ssim = ((2 * ma * mb + c1) * (2 * vab + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
        return (1 - ssim) / 2


class EncodingCorrelation(_Penalty):
    """One minus the correlation of encodings in a window around each pixel, all maps taken together.

    Encodings tell membranes from grain where intensities do not, so the successors of the original align by them (metroem, corgie
    and zetta_utils learn encoders for that purpose, with a loss that wants encodings of one place alike and those a pixel away
    unlike). Here they are those of the net's own encoders, and no gradient goes into them through what is compared: if it did, the
    net could do best by making all places alike.
    """

    compares: ClassVar[Literal["images", "encodings"]] = "encodings"

    kind: Literal["encodings"] = "encodings"
    window: int = Setting(5, ge=3, description="side of the window in pixels of the compared level, odd")
    floor: float = Setting(
        1e-4, gt=0, description="variance of a window, summed over maps of variance 1, that correlates with nothing"
    )

    def __call__(self, a: Map, b: Map, valid: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        mass = smooth_box(valid, self.window).clamp_min(1e-3)

        def mean(values: Map) -> Map:
            return smooth_box(values * valid, self.window) / mass

        def covariance(p: Map, q: Map) -> Tensor:
            return (mean(p * q) - mean(p) * mean(q)).sum(1, keepdim=True)

        va, vb = (covariance(v, v).clamp_min(0) + self.floor for v in (a, b))
        return 1 - covariance(a, b) * torch.rsqrt(va * vb)


Similarity = Annotated[
    MeanSquare | LocalCorrelation | StructuralSimilarity | EncodingCorrelation, Setting(discriminator="kind")
]
