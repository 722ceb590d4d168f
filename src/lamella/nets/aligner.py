"""The siamese pyramid: two images in, the field that aligns one to the other out (Mitchell et al., arXiv 1904.02643).

```
source ─ encoder 0 ─ halve ─ encoder 1 ─ halve ─ encoder 2 ...      (the same encoders see the target)
             |                   |                   |
field 0 ◄─ aligner 0 ◄─ ×2 ◄─ aligner 1 ◄─ ×2 ◄─ aligner 2 ◄─ zero
```

Level ``i`` works at 1/2^i of the input size. Its aligner sees the source's encoding warped by the field so far and the
target's, and gives a residual that is **composed** with that field. Fields are in pixels of their level, so one net serves
images of any size and shape; sizes are rounded up when halved. The finest ``skip`` levels have neither encoder nor aligner:
their pixels enter the first encoder as channels (a 2^skip × 2^skip block each), and the field is only interpolated there,
which costs accuracy on fields rougher than 2^skip pixels and saves most of the time.

With ``correlation`` above 0 the aligner also sees, per pixel, how well the target's encoding matches the warped source's at
every offset up to that many pixels (Sun et al., CVPR 2018): matching is then given instead of having to be learned, which
trains in a fraction of the steps. At 0 the net is the original's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from lamella.core.config import Config
from lamella.ops.field import compose, finer, rescale, warp

Image = Float[Tensor, "b 1 h w"]
Encoding = Float[Tensor, "b c h w"]
Encodings = dict[int, Float[Tensor, "b _ _ _"]]
Fields = dict[int, Float[Tensor, "b 2 _ _"]]
Field = Float[Tensor, "b 2 h w"]


class AlignerConfig(Config):
    """The siamese pyramid's shape. The original is levels 7, skip 0, kernel 7, correlation 0, norm none."""

    kind: Literal["siamese_pyramid"] = "siamese_pyramid"
    levels: int = Setting(
        6, ge=1, le=12, description="levels of the pyramid; displacements up to about 2^levels pixels"
    )
    skip: int = Setting(2, ge=0, description="finest levels that are not computed, only interpolated")
    features: int = Setting(12, ge=1, description="maps of the finest encoder")
    features_step: int = Setting(6, ge=0, description="maps added per level")
    channels: tuple[int, ...] = Setting((32, 64, 32, 16), description="maps between the convolutions of an aligner")
    kernel: int = Setting(5, ge=1, description="side of the aligner's kernels, odd")
    correlation: int = Setting(3, ge=0, le=8, description="radius in pixels of the correlation given to the aligner")
    norm: Literal["batch", "none"] = Setting(
        "batch", description="normalisation of the encodings, by stored statistics"
    )
    passes: int = Setting(1, ge=1, description="times each aligner is applied, each to the result of the last")

    @model_validator(mode="after")
    def _check(self) -> AlignerConfig:
        if self.skip >= self.levels:
            raise ValueError(f"skip {self.skip} leaves none of {self.levels} levels; use skip up to {self.levels - 1}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; use {self.kernel + 1}")
        return self

    def build(self) -> SiamesePyramid:
        return SiamesePyramid(self)


class Encoder(nn.Module):
    """Two 3×3 convolutions; borders continue their edge values, so that no frame is learned.

    With ``batch`` normalisation encodings have zero mean and unit variance per map, by statistics that are stored in training
    and fixed afterwards: without it a common offset hides the differences that the correlation is to find.
    """

    def __init__(self, channels_in: int, channels_out: int, norm: Literal["batch", "none"]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="replicate"),
            nn.LeakyReLU(0.01),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, padding_mode="replicate"),
            nn.BatchNorm2d(channels_out, affine=False) if norm == "batch" else nn.LeakyReLU(0.01),
        )

    def forward(self, x: Float[Tensor, "b i h w"]) -> Encoding:
        return self.layers(x)


class Aligner(nn.Module):
    """Convolutions from the two encodings (and their correlation) to a residual field, which starts near zero."""

    def __init__(self, config: AlignerConfig, features: int) -> None:
        super().__init__()
        self.correlation = config.correlation
        window = (2 * config.correlation + 1) ** 2 if config.correlation else 0
        widths = [2 * features + window + 2 * (window > 0), *config.channels, 2]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, config.kernel, padding=config.kernel // 2), nn.LeakyReLU(0.01)]
        self.layers = nn.Sequential(*layers[:-1])
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()

    def forward(self, source: Encoding, target: Encoding, field: Field) -> Field:
        inputs = [source, target]
        if self.correlation:
            inputs += [correlate(target, source, self.correlation), field - field.mean((-2, -1), keepdim=True)]
        return self.layers(torch.cat(inputs, 1))


def correlate(target: Encoding, source: Encoding, radius: int) -> Float[Tensor, "b k h w"]:
    """Cosine of the target's encoding at p and the source's at p + o, for every offset o up to ``radius`` (rows first).

    Beyond the image there is nothing to match, so the value is 0.
    """
    return _Correlation.apply(F.normalize(target, dim=1), F.normalize(source, dim=1), radius)


class _Correlation(torch.autograd.Function):
    """Products at every offset, accumulated in place: a third of the time of letting autograd keep each shifted view."""

    @staticmethod
    def forward(ctx: Any, target: Tensor, source: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(target, source)
        ctx.radius = radius
        padded = F.pad(source, (radius,) * 4)
        return torch.stack([(target * view).sum(1) for view in _shifted(padded, target, radius)], 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        target, source = ctx.saved_tensors
        radius, (grad,) = ctx.radius, grads
        padded = F.pad(source, (radius,) * 4)
        of_target, of_padded = torch.zeros_like(target), torch.zeros_like(padded)
        views = zip(_shifted(padded, target, radius), _shifted(of_padded, target, radius), strict=True)
        for i, (view, of_view) in enumerate(views):
            weight = grad[:, i, None]
            of_target.addcmul_(view, weight)
            of_view.addcmul_(target, weight)
        h, w = target.shape[-2:]
        return of_target, of_padded[..., radius : radius + h, radius : radius + w], None


def _shifted(padded: Tensor, like: Tensor, radius: int) -> list[Tensor]:
    """Views of ``padded`` of the size of ``like`` at every offset, rows first."""
    h, w = like.shape[-2:]
    side = range(2 * radius + 1)
    return [padded[..., y : y + h, x : x + w] for y in side for x in side]


class SiamesePyramid(nn.Module):
    """See the module. ``encode`` and ``align`` are separate so that an image's encodings can be used for several pairs."""

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        self.config = config
        levels = range(config.skip, config.levels)
        features = {i: config.features + config.features_step * i for i in levels}
        inputs = {i: features[i - 1] if i > config.skip else 4**config.skip for i in levels}
        self.encoders = nn.ModuleDict({str(i): Encoder(inputs[i], features[i], config.norm) for i in levels})
        self.aligners = nn.ModuleDict({str(i): Aligner(config, features[i]) for i in levels})

    def encode(self, image: Image) -> Encodings:
        """Encodings of an image in [0, 1] by level; missing pixels are 0."""
        encodings: Encodings = {}
        x = fold_pixels(image - 0.5 * (image > 0), self.config.skip)
        for level in range(self.config.skip, self.config.levels):
            x = x if level == self.config.skip else F.max_pool2d(x, 2, ceil_mode=True)
            x = encodings[level] = self.encoders[str(level)](x)
        return encodings

    def align(self, source: Encodings, target: Encodings, stop_level: int | None = None) -> Fields:
        """Fields by level, from the coarsest down to ``stop_level`` (the finest computed), each in pixels of its level."""
        first, last = self.config.levels - 1, max(self.config.skip, stop_level or 0)
        coarsest = target[first]
        field = coarsest.new_zeros(coarsest.shape[0], 2, *coarsest.shape[-2:])
        fields: Fields = {}
        for level in range(first, last - 1, -1):
            if fields:
                field = finer(field, (target[level].shape[-2], target[level].shape[-1]))
            for _ in range(self.config.passes):
                field = self.improve(level, source[level], target[level], field)
            fields[level] = field
        return fields

    def improve(self, level: int, source: Encoding, target: Encoding, field: Field) -> Field:
        """One application of a level's aligner to the field so far."""
        residual = self.aligners[str(level)](warp(source, field), target, field)
        return compose(field, residual)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile encoders and aligners one by one: training calls them rather than the whole net."""
        for module in (*self.encoders.values(), *self.aligners.values()):
            module.compile(*args, **kwargs)

    def forward(self, source: Image, target: Image) -> Field:
        """The field on the target grid, in pixels of the images, that aligns ``source`` to ``target``."""
        field = self.align(self.encode(source), self.encode(target))[self.config.skip]
        return rescale(field, self.config.skip, (target.shape[-2], target.shape[-1]))

    @property
    def context(self) -> int:
        """Pixels of the input around a point that can change the field there (an upper bound, to size a tile's halo)."""
        levels = range(self.config.skip, self.config.levels)
        reach = (self.config.kernel // 2) * (len(self.config.channels) + 1) + self.config.correlation + 2
        return sum((4 + reach * self.config.passes) * 2**i for i in levels)


def fold_pixels(image: Image, levels: int) -> Float[Tensor, "b c h2 w2"]:
    """Blocks of 2^levels × 2^levels pixels as channels; an incomplete block at the end continues the edge."""
    block = 2**levels
    h, w = image.shape[-2:]
    return F.pixel_unshuffle(F.pad(image, (0, -w % block, 0, -h % block), mode="replicate"), block)
