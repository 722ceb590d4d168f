"""Blocks that nets are built of, in 2D and 3D alike: convolutions with norm and activation, halving, doubling, folding.

Kernels, factors and folds are given per axis in the order ``z y x`` (``y x`` in 2D), or as one number for all axes. Where a
norm takes its statistics from the patch (``group``, ``instance``) a block of a volume is not what it would be in the whole;
``batch`` uses the statistics that training stored, so there blocks equal the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import Any, Literal, NoReturn

import torch
from jaxtyping import Float
from pydantic import Field as Setting
from torch import Tensor, nn
from torch.nn import functional as F

from lamella.core.config import Config
from lamella.core.errors import UserError

Size = int | tuple[int, ...]
Maps = Float[Tensor, "b _ ..."]
Norm = Literal["batch", "group", "instance", "none"]
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]
Order = Literal["conv-norm-act", "conv-act-norm", "norm-act-conv"]
Pooling = Literal["max", "average", "conv"]
Upsampling = Literal["nearest", "linear", "transpose"]

_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM: dict[int, Any] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_POOL: dict[str, dict[int, Any]] = {
    "max": {2: nn.MaxPool2d, 3: nn.MaxPool3d},
    "average": {2: nn.AvgPool2d, 3: nn.AvgPool3d},
}
_LINEAR = {2: "bilinear", 3: "trilinear"}
_ACTIVATION: dict[str, Any] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
_GROUPS = 8  # of a group norm; fewer where the maps cannot be shared out evenly


class BlockConfig(Config):
    """What the convolution blocks of a net have in common."""

    ndim: Literal[2, 3] = Setting(2, description="spatial axes")
    norm: Norm = Setting(
        "batch", description="batch and none let blocks of a volume equal the whole, the others do not"
    )
    activation: Activation = Setting("relu", description="between convolutions")
    order: Order = Setting("conv-norm-act", description="of the layers in a block")
    residual: bool = Setting(False, description="add a block's input to its output")
    padding: Literal["same", "valid"] = Setting(
        "same", description="valid: only what the image itself decides is given"
    )
    edges: Literal["zeros", "replicate"] = Setting("zeros", description="what lies beyond the image with padding same")
    dropout: float = Setting(0.0, ge=0, lt=1, description="share of maps' values that training leaves out")

    @property
    def seamless(self) -> bool:
        """Whether blocks of a volume can equal the whole."""
        return self.norm in ("batch", "none")


class ConvBlock(nn.Module):
    """Convolutions of the given kernels, each with its norm and activation, then dropout.

    With ``valid`` padding every convolution takes ``kernel // 2`` cells off each side.
    """

    def __init__(self, config: BlockConfig, maps_in: int, maps_out: int, kernels: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, kernel in enumerate(kernels):
            layers += _layers(config, maps_in if number == 0 else maps_out, maps_out, kernel)
        if config.dropout:
            layers.append(nn.Dropout(config.dropout))
        self.layers = nn.Sequential(*layers)
        self.trimmed = trim(kernels) if config.padding == "valid" else (0,) * config.ndim
        self.shortcut = _shortcut(config, maps_in, maps_out) if config.residual else None

    def forward(self, x: Maps) -> Maps:
        y = self.layers(x)
        if self.shortcut is None:
            return y
        return added(y, cropped(self.shortcut(x), self.trimmed, tuple(y.shape[2:])))


def trim(kernels: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Cells per axis that convolutions of these kernels reach to each side, one after the other."""
    return tuple(sum(side // 2 for side in sides) for sides in zip(*kernels, strict=True))


def _layers(config: BlockConfig, maps_in: int, maps_out: int, kernel: tuple[int, ...]) -> list[nn.Module]:
    made = {
        "conv": convolution(
            config, maps_in, maps_out, kernel, bias=config.norm == "none" or config.order != "conv-norm-act"
        ),
        "norm": _norm(config, maps_in if config.order.startswith("norm") else maps_out),
        "act": _ACTIVATION[config.activation](),
    }
    layers = [made[name] for name in config.order.split("-")]
    return [layer for layer in layers if not isinstance(layer, nn.Identity)]


def convolution(
    config: BlockConfig, maps_in: int, maps_out: int, kernel: tuple[int, ...], *, bias: bool = True
) -> nn.Module:
    """One convolution with this net's padding; initial weights keep the variance of rectified maps (He et al. 2015)."""
    padding = tuple(k // 2 if config.padding == "same" else 0 for k in kernel)
    conv = _CONV[config.ndim](maps_in, maps_out, kernel, padding=padding, padding_mode=config.edges, bias=bias)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class Head(nn.Module):
    """The last layer: one weighted sum of the maps per output, in the precision of its own weights (see ``lower``)."""

    def __init__(self, ndim: int, maps_in: int, maps_out: int) -> None:
        super().__init__()
        self.conv = _CONV[ndim](maps_in, maps_out, 1)

    def forward(self, x: Maps) -> Maps:
        return self.conv(x.to(self.conv.weight.dtype))


def _norm(config: BlockConfig, maps: int) -> nn.Module:
    if config.norm == "batch":
        return _BATCH_NORM[config.ndim](maps)
    if config.norm == "instance":
        return _INSTANCE_NORM[config.ndim](maps, affine=True)
    return nn.GroupNorm(gcd(maps, _GROUPS), maps) if config.norm == "group" else nn.Identity()


def _shortcut(config: BlockConfig, maps_in: int, maps_out: int) -> nn.Module:
    return nn.Identity() if maps_in == maps_out else _CONV[config.ndim](maps_in, maps_out, 1, bias=False)


def pooling(kind: Pooling, ndim: int, maps: int, factor: tuple[int, ...]) -> nn.Module:
    """One cell for every ``factor`` cells; cells at the end that do not fill one are left out."""
    if kind == "conv":
        return _CONV[ndim](maps, maps, factor, stride=factor)
    return _POOL[kind][ndim](factor)


class Upsample(nn.Module):
    """``factor`` times as many cells and ``maps_out`` maps, which are summed up on the coarse grid where that is cheap."""

    def __init__(self, kind: Upsampling, ndim: int, maps_in: int, maps_out: int, factor: tuple[int, ...]) -> None:
        super().__init__()
        self.kind, self.ndim, self.factor = kind, ndim, factor
        if kind == "transpose":
            self.mix: nn.Module = _TRANSPOSED[ndim](maps_in, maps_out, factor, stride=factor)
        else:
            self.mix = nn.Identity() if maps_in == maps_out else _CONV[ndim](maps_in, maps_out, 1)

    def forward(self, x: Maps) -> Maps:
        x = self.mix(x)
        if self.kind == "transpose" or prod(self.factor) == 1:
            return x
        if self.kind == "nearest":
            return F.interpolate(x, scale_factor=tuple(float(f) for f in self.factor), mode="nearest")
        return interpolate(x, self.factor)


def interpolate(x: Maps, factor: tuple[int, ...]) -> Maps:
    """``factor`` times as many cells along each axis, linear between the old ones."""
    if prod(factor) == 1:
        return x
    scale = tuple(float(f) for f in factor)
    return F.interpolate(x, scale_factor=scale, mode=_LINEAR[x.ndim - 2], align_corners=False)


class Spread(nn.Module):
    """A transposed convolution whose kernel is twice its stride, so that the cells it makes overlap (Chen et al. 2016)."""

    def __init__(self, ndim: int, maps_in: int, maps_out: int, factor: tuple[int, ...]) -> None:
        super().__init__()
        kernel = spread_kernel(factor)
        cut = tuple((k - f) // 2 for k, f in zip(kernel, factor, strict=True))
        self.conv = _TRANSPOSED[ndim](maps_in, maps_out, kernel, stride=factor, padding=cut, bias=False)

    def forward(self, x: Maps) -> Maps:
        return self.conv(x)


def spread_kernel(factor: tuple[int, ...]) -> tuple[int, ...]:
    """Twice the factor, or one less where it is odd, so that as much is cut on both sides."""
    return tuple(2 * f - f % 2 for f in factor)


def fold(x: Maps, factor: tuple[int, ...]) -> Maps:
    """Each ``factor`` block of voxels as channels of one cell: c maps become c * prod(factor); ``unfold`` undoes it."""
    if prod(factor) == 1:
        return x
    b, c, *space = x.shape
    split = [n for size, f in zip(space, factor, strict=True) for n in (size // f, f)]
    d = len(factor)
    order = (0, 1, *(3 + 2 * i for i in range(d)), *(2 + 2 * i for i in range(d)))
    cells = [size // f for size, f in zip(space, factor, strict=True)]
    return x.reshape(b, c, *split).permute(order).reshape(b, c * prod(factor), *cells)


def unfold(x: Maps, factor: tuple[int, ...]) -> Maps:
    """Channels of one cell as a block of voxels."""
    if prod(factor) == 1:
        return x
    b, c, *cells = x.shape
    d = len(factor)
    order = (0, 1, *(n for i in range(d) for n in (2 + d + i, 2 + i)))
    space = [n * f for n, f in zip(cells, factor, strict=True)]
    return x.reshape(b, c // prod(factor), *factor, *cells).permute(order).reshape(b, c // prod(factor), *space)


def cropped(x: Maps, start: Sequence[int], shape: Sequence[int] | None = None) -> Maps:
    """``shape`` cells from ``start`` on, or all that there are."""
    for axis, first in enumerate(start):
        x = x.narrow(axis + 2, first, x.shape[axis + 2] - first if shape is None else shape[axis])
    return x


def added(x: Maps, y: Maps) -> Maps:
    """``x + y``, in the memory of ``x`` (which its maker needs no more) where no gradient is asked for."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def per_axis(value: Size, ndim: int, name: str) -> tuple[int, ...]:
    """A number for every axis, at least 1."""
    values = (value,) * ndim if isinstance(value, int) else tuple(value)
    if len(values) != ndim or min(values) < 1:
        raise ValueError(f"{name} {value} must be one number of at least 1, or {ndim} of them, one per axis")
    return values


def check_space(space: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """Refuse a size that a net cannot halve as often as it must."""
    if any(n % s for n, s in zip(space, stride, strict=True)) or min(space) == 0:
        _refuse(space, stride)


def _refuse(space: tuple[int, ...], stride: tuple[int, ...]) -> NoReturn:
    need = tuple(max(s, -(-n // s) * s) for n, s in zip(space, stride, strict=True))
    raise UserError(f"an image of size {space} does not divide into {stride}; pad it to {need}")


def fuse(net: nn.Module) -> nn.Module:
    """Put each batch norm that follows a convolution into its weights, and let activations reuse memory; for evaluation only."""
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            _fuse_pairs(module)
    return net


def lower(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Compute in ``dtype`` all but the heads, in place: their sums stay fine-grained, so that outputs have no steps."""
    heads = {id(p) for module in net.modules() if isinstance(module, Head) for p in module.parameters()}
    for value in (*net.parameters(), *net.buffers()):
        if id(value) not in heads and value.is_floating_point():
            value.data = value.data.to(dtype)
    return net


def _fuse_pairs(layers: nn.Sequential) -> None:
    for at in range(len(layers) - 1):
        conv, norm = layers[at], layers[at + 1]
        if not isinstance(conv, nn.Conv2d | nn.Conv3d):
            continue
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            layers[at] = torch.nn.utils.fuse_conv_bn_eval(conv, norm)
            layers[at + 1] = nn.Identity()
        following = next((layer for layer in list(layers)[at + 1 :] if not isinstance(layer, nn.Identity)), None)
        if isinstance(following, nn.ReLU | nn.LeakyReLU | nn.ELU | nn.SiLU):
            following.inplace = True
