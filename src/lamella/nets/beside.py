"""A U-Net with the intensities themselves beside its outputs, smoothed: what an embedding does not keep, a head can still read.

    image ─┬─ U-Net ───────────────────────── learnt channels ─┬─ outputs
           └─ a Gaussian for each deviation ─ intensities ─────┘

Every channel of the image is smoothed by each Gaussian. At an image's edges its last voxels go on, and far inside a patch nothing is
seen of that, so blocks with the context equal the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.nets.blocks import cropped
from lamella.nets.unet import Image, Maps, UNet, UNetConfig

Deviation = float | tuple[float, ...]  # voxels, for all axes or for each, z first

_REACH = 3  # deviations; what is farther away weighs less than three in a thousand
_CONV = {2: F.conv2d, 3: F.conv3d}


def build_beside(config: UNetConfig, in_channels: int, learnt: int, beside: Sequence[Deviation]) -> UNet:
    """The U-Net with ``learnt`` outputs, and smoothed intensities after them if there are deviations."""
    return UNetBeside(config, in_channels, learnt, beside) if beside else config.build(in_channels, learnt)


def check_deviations(beside: Sequence[Deviation], ndim: int) -> None:
    """Raise ValueError for deviations that no Gaussian has, and for another number of axes."""
    for deviation in beside:
        values = deviations_of(deviation, ndim)
        if len(values) != ndim:
            raise ValueError(f"beside {deviation} has {len(values)} numbers; give one, or {ndim}, one for each axis")
        if not all(0 <= v < float("inf") for v in values):
            raise ValueError(f"beside {deviation} must be deviations in voxels, 0 or more")


def deviations_of(deviation: Deviation, ndim: int) -> tuple[float, ...]:
    """For every axis."""
    return (float(deviation),) * ndim if isinstance(deviation, (int, float)) else deviation


class UNetBeside(UNet):
    """See the module. ``learnt`` of the ``out_channels`` come from the net; its weights have the names of the U-Net's."""

    def __init__(self, config: UNetConfig, in_channels: int, learnt: int, beside: Sequence[Deviation]) -> None:
        super().__init__(config, in_channels, learnt)
        self.beside = [deviations_of(each, config.ndim) for each in beside]
        self.out_channels = learnt + in_channels * len(beside)
        self.register_buffer("deviations", torch.tensor(self.beside))  # of the weights' fingerprint

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels on each side that an output voxel depends on; exact."""
        reach = [max(_radius(each[axis]) for each in self.beside) for axis in range(self.config.ndim)]
        return tuple(max(a, b) for a, b in zip(super().context, reach, strict=True))

    def forward(self, x: Image) -> Float[Tensor, "b _ ..."]:
        """Raw outputs, the learnt ones first; then for each deviation the channels of the image."""
        learnt = super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            smoothed = [self._inner(smooth(x.float(), each)) for each in self.beside]
        return torch.cat([learnt.float(), *smoothed], 1)

    def _inner(self, maps: Maps) -> Maps:
        """What is left by the margin."""
        return cropped(maps, self.margin, tuple(n - 2 * m for m, n in zip(self.margin, maps.shape[2:], strict=True)))


def smooth(x: Image, deviations: Sequence[float]) -> Maps:
    """Maps ``(b, c, *space)`` smoothed along each axis by a Gaussian of that deviation, 0 for none; edges go on."""
    for axis, deviation in enumerate(deviations):
        if deviation > 0:
            x = _smooth_along(x, deviation, axis)
    return x


def _smooth_along(x: Image, deviation: float, axis: int) -> Maps:
    ndim, radius = x.ndim - 2, _radius(deviation)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (offsets / deviation) ** 2)
    shape = [1, 1, *(len(weights) if k == axis else 1 for k in range(ndim))]
    width = [radius if k == axis else 0 for k in reversed(range(ndim)) for _ in range(2)]
    padded = F.pad(x.flatten(0, 1)[:, None], width, mode="replicate")
    return _CONV[ndim](padded, (weights / weights.sum()).reshape(shape)).reshape(x.shape)


def _radius(deviation: float) -> int:
    return ceil(_REACH * deviation)
