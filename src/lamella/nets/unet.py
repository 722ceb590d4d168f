"""The U-Net (Ronneberger et al. 2015; Çiçek et al. 2016), for images and volumes, as wide as its users have wanted it.

```
image ─ fold ─ block 0 ──────────── skip ───────────── block 0 ─ head ─ unfold
                  └ pool ─ block 1 ─ skip ─ block 1 ─ up ┘
                              └ pool ─ block 2 ─ up ┘
```

``fold`` lets the net work on a grid that many times coarser: a block of voxels enters as channels and leaves as outputs, which
loses no voxel and saves most of the time, since most of a U-Net's time goes into its finest level. With ``unfolding: linear`` one
output per cell is interpolated instead, for images that are smooth at that scale: what is learnt then has no grain within cells.

With ``same`` padding the output is as large as the input. With ``valid`` padding it is smaller by ``margin`` on each side, a
multiple of the stride: whatever the size of the input, an output voxel is the same function of the voxels around it, so that
tiles laid side by side equal the whole (the crop to a factor of Funke et al. 2019, without its effect on training sizes).
"""

from __future__ import annotations

from math import prod
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor, nn

from lamella.core.errors import UserError
from lamella.nets.blocks import (
    BlockConfig,
    ConvBlock,
    Head,
    Pooling,
    Size,
    Upsample,
    Upsampling,
    added,
    check_space,
    cropped,
    fold,
    interpolate,
    per_axis,
    pooling,
    trim,
    unfold,
)
from lamella.nets.reach import Span, context_of, convolved, interpolated, joined, pooled, repeated

Image = Float[Tensor, "b c *space"]
Maps = Float[Tensor, "b _ ..."]
Kernels = tuple[tuple[Size, ...], ...]
Place = tuple[int, ...]
T = TypeVar("T")


class UNetConfig(BlockConfig):
    """A U-Net's shape. There is one level more than there are factors in ``down``."""

    kind: Literal["unet"] = "unet"
    features: int | tuple[int, ...] = Setting(
        32, description="maps of the first level, or of every level, finest first"
    )
    growth: float = Setting(2.0, ge=1, description="factor from level to level where features is one number")
    down: tuple[Size, ...] = Setting((2, 2, 2), description="factor from each level to the next, per axis if wanted")
    fold: Size = Setting(1, description="voxels along each axis that become one cell before the first convolution")
    unfolding: Literal["cells", "linear"] = Setting(
        "cells", description="how cells become voxels again: each voxel an output of its own, or interpolated"
    )
    convs: int = Setting(2, ge=1, description="convolutions of each block")
    kernel: Size = Setting(3, description="side of their kernels, odd")
    kernels_down: Kernels | None = Setting(None, description="kernels of every block on the way down, finest first")
    kernels_up: Kernels | None = Setting(None, description="kernels of every block on the way up, finest first")
    decoder: int | tuple[int, ...] | None = Setting(
        None, description="maps on the way up, for all levels or each, finest first; as on the way down if not given"
    )
    skip: Literal["concat", "add"] = Setting(
        "concat", description="how the maps of the way down join those of the way up"
    )
    pooling: Pooling = Setting("max", description="how cells are made fewer")
    upsampling: Upsampling = Setting("nearest", description="how cells are made more")

    @model_validator(mode="after")
    def _check(self) -> UNetConfig:
        for factor in self.down:
            per_axis(factor, self.ndim, "a factor of down")
        per_axis(self.fold, self.ndim, "fold")
        kernels = [k for level in self.down_kernels + self.up_kernels for k in level]
        if even := next((k for k in kernels if any(n % 2 == 0 for n in k)), None):
            raise ValueError(f"kernel {even} has an even side; use {tuple(n + 1 - n % 2 for n in even)}")
        if min((*self.maps_down, *self.maps_up)) < 1:
            raise ValueError(f"features {self.features} and decoder {self.decoder} must be at least 1")
        return self

    @property
    def maps_down(self) -> tuple[int, ...]:
        """Maps of each level on the way down, finest first."""
        levels = len(self.down) + 1
        if isinstance(self.features, int):
            return tuple(round(self.features * self.growth**level) for level in range(levels))
        return _of_length(self.features, levels, "features", "one per level, that is one more than down has")

    @property
    def maps_up(self) -> tuple[int, ...]:
        """Maps of each level on the way up, finest first."""
        levels = len(self.down)
        if self.decoder is None:
            return self.maps_down[:levels]
        if isinstance(self.decoder, int):
            return (self.decoder,) * levels
        return _of_length(self.decoder, levels, "decoder", "as many as down has")

    @property
    def down_kernels(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        return self._kernels(self.kernels_down, len(self.down) + 1, "kernels_down")

    @property
    def up_kernels(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        return self._kernels(self.kernels_up, len(self.down), "kernels_up")

    def _kernels(self, given: Kernels | None, levels: int, name: str) -> tuple[tuple[tuple[int, ...], ...], ...]:
        if given is None:
            return ((per_axis(self.kernel, self.ndim, "kernel"),) * self.convs,) * levels
        _of_length(given, levels, name, "one list per level")
        if not all(given):
            raise ValueError(f"{name} has a level without kernels; give every level at least one")
        return tuple(tuple(per_axis(k, self.ndim, f"a kernel of {name}") for k in level) for level in given)

    def build(self, in_channels: int, out_channels: int) -> UNet:
        return UNet(self, in_channels, out_channels)


class UNet(nn.Module):
    """See the module. ``forward`` gives raw outputs; ``features`` what the last layer makes them from.

    Sizes must be multiples of ``stride``. Nothing farther than ``context`` voxels from an output voxel changes it, and
    something at that distance does. ``seamless`` tells whether blocks with that context equal the whole.
    """

    def __init__(self, config: UNetConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.config, self.in_channels, self.out_channels = config, in_channels, out_channels
        ndim, maps, up = config.ndim, config.maps_down, config.maps_up
        self.fold = per_axis(config.fold, ndim, "fold")
        self.factors = [per_axis(f, ndim, "factor") for f in config.down]
        inputs = (in_channels * prod(self.fold), *maps[:-1])
        kernels = (config.down_kernels, config.up_kernels)
        self.down = nn.ModuleList(ConvBlock(config, a, b, k) for a, b, k in zip(inputs, maps, kernels[0], strict=True))
        self.pools = nn.ModuleList(
            pooling(config.pooling, ndim, m, f) for m, f in zip(maps, self.factors, strict=False)
        )
        below = (*up[1:], maps[-1])
        self.ups = nn.ModuleList(
            Upsample(config.upsampling, ndim, a, b, f) for a, b, f in zip(below, maps, self.factors, strict=False)
        )
        joint = [m * (1 + (config.skip == "concat")) for m in maps]
        self.up = nn.ModuleList(ConvBlock(config, a, b, k) for a, b, k in zip(joint, up, kernels[1], strict=False))
        per_cell = prod(self.fold) if config.unfolding == "cells" else 1
        self.head = Head(ndim, up[0] if up else maps[0], out_channels * per_cell)
        self.skipped, self.starts, self.lost = self._trimmings()

    @property
    def stride(self) -> tuple[int, ...]:
        """What sizes, and the places of blocks, must be multiples of."""
        return tuple(prod(f[axis] for f in (self.fold, *self.factors)) for axis in range(self.config.ndim))

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels on each side that an output voxel depends on; exact."""
        return tuple(
            context_of(lambda span, axis=axis: self._needs(span, axis), stride)  # type: ignore[misc]
            for axis, stride in enumerate(self.stride)
        )

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels per side by which the output is smaller than the input."""
        if self.config.padding == "same":
            return (0,) * self.config.ndim
        return tuple(-(-c // s) * s for c, s in zip(self.context, self.stride, strict=True))

    @property
    def seamless(self) -> bool:
        return self.config.seamless

    def forward(self, x: Image) -> Float[Tensor, "b _ ..."]:
        """Raw outputs, for example logits."""
        y = self._unfold(self.head(self.features(x)))
        size = tuple(n - 2 * m for n, m in zip(x.shape[2:], self.margin, strict=True))
        return cropped(y, tuple(m - n for m, n in zip(self.margin, self.lost, strict=True)), size)

    def features(self, x: Image) -> Maps:
        """The maps of the finest level, on the folded grid."""
        self._check(tuple(x.shape[2:]), x.shape[1])
        x = self.down[0](fold(x, self.fold))
        skips = []
        for pool, block, skipped in zip(self.pools, self.down[1:], self.skipped, strict=True):
            skips.append(x)
            x = block(pool(cropped(x, skipped)))
        for level in reversed(range(len(skips))):
            x = self.ups[level](x)
            x = self.up[level](self._join(cropped(skips[level], self.starts[level], tuple(x.shape[2:])), x))
        return x

    def _unfold(self, x: Maps) -> Maps:
        return unfold(x, self.fold) if self.config.unfolding == "cells" else interpolate(x, self.fold)

    def _join(self, skip: Maps, x: Maps) -> Maps:
        return torch.cat([skip, x], 1) if self.config.skip == "concat" else added(x, skip)

    def _trimmings(self) -> tuple[list[Place], list[Place], Place]:
        """What valid convolutions cost. For each level, in its cells: what to leave out before pooling, so that pooling keeps
        to the grid of the image's first voxel; and where the maps that come up begin in those that went down. Last, the voxels
        that the whole net loses on either side.
        """
        zero = (0,) * self.config.ndim
        if self.config.padding == "same":
            return [zero for _ in self.factors], [zero for _ in self.factors], zero
        down, up = ([trim(k) for k in kernels] for kernels in (self.config.down_kernels, self.config.up_kernels))
        begin, begins, skipped = down[0], [down[0]], []
        for factor, lost in zip(self.factors, down[1:], strict=True):
            skipped.append(tuple(-b % f for b, f in zip(begin, factor, strict=True)))
            begin = tuple(-(-b // f) + n for b, f, n in zip(begin, factor, lost, strict=True))
            begins.append(begin)
        starts: list[Place] = []
        for level in reversed(range(len(self.factors))):
            risen = tuple(b * f for b, f in zip(begin, self.factors[level], strict=True))
            starts.insert(0, tuple(r - b for r, b in zip(risen, begins[level], strict=True)))
            begin = tuple(r + n for r, n in zip(risen, up[level], strict=True))
        return skipped, starts, tuple(f * n for f, n in zip(self.fold, begin, strict=True))

    def _needs(self, span: Span, axis: int) -> Span:
        """The voxels that a span of output voxels depends on, along one axis."""
        spread = interpolated if self.config.upsampling == "linear" else repeated
        down, up = self.config.down_kernels, self.config.up_kernels
        span = (repeated if self.config.unfolding == "cells" else interpolated)(span, self.fold[axis])
        skips = []
        for factor, kernels in zip(self.factors, up, strict=True):
            span = _through(span, kernels, axis)
            skips.append(span)
            span = spread(span, factor[axis])
        for level in reversed(range(len(self.factors))):
            span = joined(pooled(_through(span, down[level + 1], axis), self.factors[level][axis]), skips[level])
        return pooled(_through(span, down[0], axis), self.fold[axis])

    def _check(self, space: tuple[int, ...], channels: int) -> None:
        if channels != self.in_channels:
            raise UserError(
                f"an image has {channels} channels, the net was made for {self.in_channels}; give that many"
            )
        check_space(space, self.stride)
        least = tuple(2 * m + s for m, s in zip(self.margin, self.stride, strict=True))
        if any(n < need for n, need in zip(space, least, strict=True)):
            raise UserError(f"an image of size {space} leaves no output with valid padding; give at least {least}")


def _through(span: Span, kernels: tuple[tuple[int, ...], ...], axis: int) -> Span:
    for kernel in kernels:
        span = convolved(span, kernel[axis])
    return span


def _of_length(values: tuple[T, ...], length: int, name: str, need: str) -> tuple[T, ...]:
    if len(values) != length:
        raise ValueError(f"{name} has {len(values)} entries; give {length}, {need}")
    return values
