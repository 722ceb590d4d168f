"""The 2.5D U-Net (Guo et al. 2020): a window of slices in, its middle slice out, or all of them.

```
window (depth slices) ─ block ───── collapse ───── block ─ head       output "slice"
  3 x 3 x 3 on the way down └ pool 1 x 2 x 2 ─ ... ─ collapse ─ up ┘
```

On the way down convolutions see depth; pooling acts in the plane only. Each skip and the bottom are collapsed to one slice by a
convolution over the whole depth, and the way up is flat. With output ``stack`` nothing is collapsed, and the way up has kernels of one
slice.

Seen from outside it is a 2D net: the slices of the window follow each other as channels, those of the first channel first, so that
whatever applies 2D nets to volumes slice by slice applies this one.
"""

from __future__ import annotations

from math import prod
from typing import Literal

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
    Upsample,
    Upsampling,
    added,
    check_space,
    fold,
    interpolate,
    pooling,
    unfold,
)
from lamella.nets.reach import Span, context_of, convolved, interpolated, joined, pooled, repeated

Image = Float[Tensor, "b c y x"]
Maps = Float[Tensor, "b _ ..."]


class StackUNetConfig(BlockConfig):
    """A 2.5D U-Net's shape. There is one level more than there are factors in ``down``."""

    kind: Literal["stack_unet"] = "stack_unet"
    ndim: Literal[2] = Setting(2, description="it is applied slice by slice")
    padding: Literal["same"] = "same"
    output: Literal["slice", "stack"] = Setting("slice", description="the window's middle slice, or all its slices")
    features: tuple[int, ...] = Setting((16, 32, 64, 128), description="maps of each level, finest first")
    down: tuple[int, ...] = Setting((2, 2, 2), description="factor in the plane from each level to the next")
    fold: int = Setting(1, ge=1, description="pixels along y and x that become one cell before the first convolution")
    unfolding: Literal["cells", "linear"] = Setting(
        "cells", description="how cells become pixels again: each pixel an output of its own, or interpolated"
    )
    convs: int = Setting(2, ge=1, description="convolutions of each block")
    kernel: int = Setting(3, ge=1, description="side of their kernels, odd; along z too on the way down")
    skip: Literal["concat", "add"] = Setting(
        "concat", description="how the maps of the way down join those of the way up"
    )
    pooling: Pooling = Setting("max", description="how cells are made fewer")
    upsampling: Upsampling = Setting("nearest", description="how cells are made more")

    @model_validator(mode="after")
    def _check(self) -> StackUNetConfig:
        if len(self.features) != len(self.down) + 1 or min(self.features, default=0) < 1:
            raise ValueError(
                f"features {self.features} must be {len(self.down) + 1} numbers of at least 1, one more than down"
            )
        if min(self.down, default=1) < 1:
            raise ValueError(f"down {self.down} must hold factors of at least 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; use {self.kernel + 1}")
        return self

    def build(self, in_channels: int, out_channels: int, depth: int = 1) -> StackUNet:
        """For windows of ``depth`` slices of ``in_channels`` channels; ``out_channels`` of the middle slice, or of each slice."""
        return StackUNet(self, in_channels, out_channels, depth)


class StackUNet(nn.Module):
    """See the module. Images are (b, channels * depth, y, x), outputs (b, outputs [* depth], y, x), raw."""

    def __init__(self, config: StackUNetConfig, channels: int, outputs: int, depth: int) -> None:
        super().__init__()
        if depth % 2 == 0:
            raise UserError(f"depth {depth} is even, so no slice is in the middle; choose {depth - 1} or {depth + 1}")
        self.config, self.channels, self.outputs, self.depth = config, channels, outputs, depth
        self.flat = config.output == "slice"
        deep, wide = _as(config, 3), _as(config, 2 if self.flat else 3)
        maps, levels = config.features, len(config.down)
        cube, plane = (config.kernel,) * 3, (config.kernel,) * 2 if self.flat else (1, config.kernel, config.kernel)
        inputs = (channels * config.fold**2, *maps[:-1])
        self.down = nn.ModuleList(
            ConvBlock(deep, a, b, (cube,) * config.convs) for a, b in zip(inputs, maps, strict=True)
        )
        self.pools = nn.ModuleList(
            pooling(config.pooling, 3, m, (1, f, f)) for m, f in zip(maps, config.down, strict=False)
        )
        self.collapse = nn.ModuleList(nn.Conv3d(m, m, (depth, 1, 1)) if self.flat else nn.Identity() for m in maps)
        factors = [(f, f) if self.flat else (1, f, f) for f in config.down]
        self.ups = nn.ModuleList(
            Upsample(config.upsampling, wide.ndim, maps[k + 1], maps[k], factors[k]) for k in range(levels)
        )
        joint = 1 + (config.skip == "concat")
        self.up = nn.ModuleList(ConvBlock(wide, m * joint, m, (plane,) * config.convs) for m in maps[:levels])
        self.fold = (config.fold,) * 2 if self.flat else (1, config.fold, config.fold)
        self.head = Head(wide.ndim, maps[0], outputs * (config.fold**2 if config.unfolding == "cells" else 1))

    @property
    def in_channels(self) -> int:
        return self.channels * self.depth

    @property
    def out_channels(self) -> int:
        return self.outputs if self.flat else self.outputs * self.depth

    @property
    def stride(self) -> tuple[int, ...]:
        """What sizes, and the places of blocks, must be multiples of."""
        return (self.config.fold * prod(self.config.down),) * 2

    @property
    def context(self) -> tuple[int, ...]:
        """Pixels on each side that an output pixel depends on; exact."""
        return (context_of(self._needs, self.stride[0]),) * 2

    @property
    def margin(self) -> tuple[int, ...]:
        """The output is as large as the input."""
        return (0, 0)

    @property
    def seamless(self) -> bool:
        return self.config.seamless

    def forward(self, x: Image) -> Float[Tensor, "b _ y x"]:
        """Raw outputs, for example logits."""
        self._check(x)
        x = fold(x.unflatten(1, (self.channels, self.depth)), (1, self.config.fold, self.config.fold))
        skips = []
        for block, pool in zip(self.down[:-1], self.pools, strict=True):
            x = block(x)
            skips.append(x)
            x = pool(x)
        x = self._collapsed(len(skips), self.down[-1](x))
        for level in reversed(range(len(skips))):
            skip = self._collapsed(level, skips[level])
            x = self.ups[level](x)
            x = self.up[level](torch.cat([skip, x], 1) if self.config.skip == "concat" else added(x, skip))
        x = (unfold if self.config.unfolding == "cells" else interpolate)(self.head(x), self.fold)
        return x if self.flat else x.flatten(1, 2)

    def _collapsed(self, level: int, x: Maps) -> Maps:
        x = self.collapse[level](x)
        return x.squeeze(2) if self.flat else x

    def _needs(self, span: Span) -> Span:
        """The pixels that a span of output pixels depends on, along y or x."""
        config = self.config
        spread = interpolated if config.upsampling == "linear" else repeated

        def block(span: Span) -> Span:
            for _ in range(config.convs):
                span = convolved(span, config.kernel)
            return span

        span = (repeated if config.unfolding == "cells" else interpolated)(span, config.fold)
        skips = []
        for factor in config.down:
            span = block(span)
            skips.append(span)
            span = spread(span, factor)
        for level in reversed(range(len(config.down))):
            span = joined(pooled(block(span), config.down[level]), skips[level])
        return pooled(block(span), config.fold)

    def _check(self, x: Image) -> None:
        if x.shape[1] != self.in_channels:
            raise UserError(
                f"an image has {x.shape[1]} channels, the net was made for {self.channels} channels of {self.depth} slices; give "
                f"{self.in_channels}"
            )
        check_space(tuple(x.shape[2:]), self.stride)


def _as(config: StackUNetConfig, ndim: Literal[2, 3]) -> BlockConfig:
    """What blocks of ``ndim`` axes take of the config."""
    return BlockConfig(ndim=ndim, **{k: getattr(config, k) for k in BlockConfig.model_fields if k != "ndim"})
