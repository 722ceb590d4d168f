"""DCAN: one encoder, a branch for objects and one for their boundaries, fused from several levels (Chen et al., CVPR 2016).

```
image ─ block ─ pool ─ block ─ pool ─ ... ─ block ─ pool ─ block ─ pool ─ block
                                              │              │              │
branch "objects"                            spread         spread         spread       to full size, each with a score
                                              └────── + ─────┴────── + ─────┘  =  fused score
branch "boundaries"                          (the same with weights of its own)
```

Every level's score is supervised besides their sum, so that the deep levels learn something useful by themselves.

**Last activation.** The seed's sum of rectified scores is never negative, so a sigmoid of it lies in [0.5, 1] and must be
stretched (2 p - 1), while a tangent is a probability as it is; both stop learning where the sum is 0. Here the sum ``z`` is
rectified softly, by ``softplus``, and what ``forward`` gives is the logit of the resulting probability in closed form, for a
loss that is stable everywhere:

    tanh     p = tanh(softplus(z))             logit = z + softplus(z - ln 2)
    sigmoid  p = 2 sigmoid(softplus(z)) - 1    logit = z - ln 2
"""

from __future__ import annotations

from math import log, prod
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from lamella.core.errors import UserError
from lamella.nets.blocks import (
    BlockConfig,
    ConvBlock,
    Head,
    Size,
    Spread,
    check_space,
    per_axis,
    pooling,
    spread_kernel,
)
from lamella.nets.reach import Span, context_of, convolved, joined, pooled, transposed

Image = Float[Tensor, "b c *space"]
Scores = Float[Tensor, "b _ *space"]

_LN2 = log(2.0)


class DcanConfig(BlockConfig):
    """DCAN's shape. The original has features 64 to 1024, one map per branch and level, and dropout 0.5 in the branches."""

    kind: Literal["dcan"] = "dcan"
    features: tuple[int, ...] = Setting((64, 128, 256, 512, 512, 1024), min_length=1, description="maps of every level")
    down: tuple[Size, ...] | None = Setting(None, description="factor from each level to the next; 2 if not given")
    convs: int = Setting(1, ge=1, description="convolutions of each block, of side 3")
    fused: int = Setting(3, ge=1, description="how many of the deepest levels the branches draw on")
    branch_features: int = Setting(1, ge=1, description="maps of each branch at each level")
    final_act: Literal["tanh", "sigmoid"] = Setting("tanh", description="how scores become probabilities")
    dropout: float = Setting(0.5, ge=0, lt=1, description="share of the branches' values that training leaves out")

    @model_validator(mode="after")
    def _check(self) -> DcanConfig:
        if self.fused > len(self.features):
            raise ValueError(f"fused {self.fused} is more than the {len(self.features)} levels; use at most that")
        if self.padding != "same":
            raise ValueError("DCAN sums maps of all levels, which only padding 'same' leaves alike; use that")
        if len(self.factors) != len(self.features) - 1:
            raise ValueError(
                f"down has {len(self.factors)} factors; give {len(self.features) - 1}, one less than features"
            )
        return self

    @property
    def factors(self) -> tuple[tuple[int, ...], ...]:
        """Factor per axis from each level to the next."""
        given = (2,) * (len(self.features) - 1) if self.down is None else self.down
        return tuple(per_axis(f, self.ndim, "a factor of down") for f in given)

    def build(self, in_channels: int, out_channels: int = 2) -> Dcan:
        return Dcan(self, in_channels, out_channels)


class Branch(nn.Module):
    """From the deepest levels' maps to a score at full size per level."""

    def __init__(self, config: DcanConfig, scales: list[tuple[int, ...]]) -> None:
        super().__init__()
        features = config.features[-config.fused :]
        style = config.model_copy(update={"dropout": 0.0})
        self.spread = nn.ModuleList(
            Spread(config.ndim, maps, config.branch_features, scale)
            for maps, scale in zip(features, scales, strict=True)
        )
        one = ((1,) * config.ndim,)
        self.mix = nn.ModuleList(
            ConvBlock(style, config.branch_features, config.branch_features, one) for _ in features
        )
        self.dropout = nn.Dropout(config.dropout)
        self.heads = nn.ModuleList(Head(config.ndim, config.branch_features, 1) for _ in features)

    def forward(self, maps: list[Tensor]) -> list[Float[Tensor, "b 1 ..."]]:
        layers = zip(maps, self.spread, self.mix, self.heads, strict=True)
        return [score(self.dropout(mix(spread(x)))) for x, spread, mix, score in layers]


class Dcan(nn.Module):
    """See the module. There is one branch per output channel, objects and boundaries first."""

    def __init__(self, config: DcanConfig, in_channels: int, out_channels: int = 2) -> None:
        super().__init__()
        self.config, self.in_channels, self.out_channels = config, in_channels, out_channels
        style = config.model_copy(update={"dropout": 0.0})
        kernels = ((3,) * config.ndim,) * config.convs
        inputs = (in_channels, *config.features[:-1])
        self.down = nn.ModuleList(ConvBlock(style, a, b, kernels) for a, b in zip(inputs, config.features, strict=True))
        self.pools = nn.ModuleList(
            pooling("max", config.ndim, m, f) for m, f in zip(config.features, config.factors, strict=False)
        )
        self.branches = nn.ModuleList(Branch(config, self.scales) for _ in range(out_channels))

    @property
    def scales(self) -> list[tuple[int, ...]]:
        """Voxels per cell of each fused level."""
        axes, factors = range(self.config.ndim), self.config.factors
        scales = [tuple(prod(f[axis] for f in factors[:level]) for axis in axes) for level in range(len(factors) + 1)]
        return scales[-self.config.fused :]

    @property
    def stride(self) -> tuple[int, ...]:
        """What sizes, and the places of blocks, must be multiples of."""
        return self.scales[-1]

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels on each side that an output voxel depends on; exact."""
        return tuple(
            context_of(lambda span, axis=axis: self._needs(span, axis), stride)  # type: ignore[misc]
            for axis, stride in enumerate(self.stride)
        )

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels per side by which the output is smaller than the input: none."""
        return (0,) * self.config.ndim

    @property
    def seamless(self) -> bool:
        return self.config.seamless

    def forward(self, x: Image) -> Scores:
        """Logits of the fused probabilities."""
        return self.outputs(x)[0]

    def auxiliary(self, x: Image) -> list[Scores]:
        """Logits of each fused level by itself, finest first."""
        return self.outputs(x)[1]

    def outputs(self, x: Image) -> tuple[Scores, list[Scores]]:
        """``forward`` and ``auxiliary`` in one pass, for training."""
        self._check(tuple(x.shape[2:]), x.shape[1])
        maps = self._encode(x)
        by_branch = [branch(maps) for branch in self.branches]
        levels = [torch.cat(scores, 1) for scores in zip(*by_branch, strict=True)]
        return self._logits(torch.stack(levels).sum(0)), [self._logits(level) for level in levels]

    def probabilities(self, logits: Scores) -> Scores:
        """What ``forward`` or ``auxiliary`` gave, as probabilities."""
        return torch.sigmoid(logits)

    def _encode(self, x: Image) -> list[Tensor]:
        maps = [self.down[0](x)]
        for pool, block in zip(self.pools, self.down[1:], strict=True):
            maps.append(block(pool(maps[-1])))
        return maps[-self.config.fused :]

    def _logits(self, scores: Scores) -> Scores:
        return scores - _LN2 if self.config.final_act == "sigmoid" else scores + F.softplus(scores - _LN2)

    def _needs(self, span: Span, axis: int) -> Span:
        """The voxels that a span of output voxels depends on, along one axis."""
        drawn = [transposed(span, scale[axis], spread_kernel(scale)[axis]) for scale in self.scales]
        needed = drawn.pop()
        for factor in reversed((1, *(f[axis] for f in self.config.factors))):
            for _ in range(self.config.convs):
                needed = convolved(needed, 3)
            needed = pooled(needed, factor)
            if drawn:
                needed = joined(needed, drawn.pop())
        return needed

    def _check(self, space: tuple[int, ...], channels: int) -> None:
        if channels != self.in_channels:
            raise UserError(
                f"an image has {channels} channels, the net was made for {self.in_channels}; give that many"
            )
        check_space(space, self.stride)
