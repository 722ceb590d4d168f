"""How like a prediction is to its target, for losses and for following a training: means under weights, sample by sample.

Images are ``(b, c, *space)``, in 2D or 3D; weights have the same shape, or one that broadcasts to it. What is predicted where the
weight is 0 has no influence on anything here. All means are divided by the sum of the weights, for each sample and channel by itself; then
samples and channels that weigh anything are averaged. So a loss does not depend on how much of a crop counts, nor on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.ops.running import running_mean

Maps = Float[Tensor, "b c *space"]
Weight = Float[Tensor, "b #c *space"]
Windows = Float[Tensor, "b _ ..."]  # smaller than the images
PerChannel = Float[Tensor, "b c"]
Scalar = Float[Tensor, ""]
Window = Literal["gaussian", "uniform"]
Size = int | tuple[int, ...]

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of the scales (Wang, Simoncelli and Bovik 2003)
_CONV = {2: F.conv2d, 3: F.conv3d}
_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}
_K1, _K2 = 0.01, 0.03
_SIGMA = 1.5


def weighted(values: Maps, weight: Weight) -> PerChannel:
    """The weighted mean of each sample and channel; 0 where nothing weighs anything.

    >>> weighted(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[1.0, 0.0]]]]))
    tensor([[1.]])
    """
    weight = weight.expand_as(values)
    axes = tuple(range(2, values.ndim))
    return torch.where(weight > 0, values * weight, 0).sum(axes) / weight.sum(axes).clamp_min(1e-6)


def over_samples(values: PerChannel, weight: Weight) -> Scalar:
    """The mean over the samples and channels that weigh anything; 0 if none does."""
    counts = (weight.flatten(2).sum(2) > 0).expand_as(values).to(values.dtype)
    return (values * counts).sum() / counts.sum().clamp_min(1)


def mean(values: Maps, weight: Weight) -> Scalar:
    """The mean over samples and channels of their weighted means."""
    return over_samples(weighted(values, weight), weight)


def ssim(
    prediction: Maps,
    target: Maps,
    weight: Weight,
    *,
    window: Window = "gaussian",
    size: Size | None = None,
    span: float = 1.0,
) -> PerChannel:
    """Structural similarity (Wang et al. 2004) of each sample and channel, with windows that lie inside the image.

    ``window``: ``gaussian`` (11 pixels, sigma 1.5; moments as populations) or ``uniform`` (7 pixels; covariances as samples, as
    scikit-image has by default). ``size`` is the side of either, for all axes or each, ``span`` the range of intensities. A window counts
    as its middle does.
    """
    sizes = window_sides(window, size, target.ndim - 2)
    weight = weight.expand_as(target)
    whole, _ = _similarity(_known(prediction, target, weight), target, window, sizes, span)
    return weighted(whole, _middle(weight, sizes))


def ms_ssim(
    prediction: Maps,
    target: Maps,
    weight: Weight,
    *,
    window: Window = "gaussian",
    size: Size | None = None,
    span: float = 1.0,
    scales: Sequence[float] = SCALES,
) -> PerChannel:
    """Multi-scale structural similarity of each sample and channel: contrast and structure at scales that halve, and all of SSIM at
    the coarsest, each to the power of its entry in ``scales``. Negative similarities count as 0. Axes along which windows have one
    voxel are not halved.

    Every side must be at least ``least_side(len(scales), size)``.
    """
    sizes = window_sides(window, size, target.ndim - 2)
    weight = weight.expand_as(target)
    a, b = _known(prediction, target, weight), target
    found = torch.ones(a.shape[:2], dtype=a.dtype, device=a.device)
    for number, power in enumerate(scales):
        whole, contrast = _similarity(a, b, window, sizes, span)
        last = number == len(scales) - 1
        at_scale = weighted(whole if last else contrast, _middle(weight, sizes))
        found = found * at_scale.clamp_min(1e-6) ** power
        if not last:
            halves = tuple(1 + (side > 1) for side in sizes)
            a, b, weight = (_POOL[a.ndim - 2](x, halves) for x in (a, b, weight))
    return found


def window_sides(window: Window, size: Size | None, ndim: int) -> tuple[int, ...]:
    """The sides of a window, by default 11 voxels, or 7 if it is uniform."""
    size = size or (11 if window == "gaussian" else 7)
    return (size,) * ndim if isinstance(size, int) else size


def least_side(scales: int, size: int) -> int:
    """The least side of an image for ``ms_ssim``.

    >>> least_side(5, 11)
    176
    """
    return size * 2 ** (scales - 1)


def pearson(prediction: Maps, target: Maps, weight: Weight) -> PerChannel:
    """The correlation of each sample and channel; 0 where either is constant."""
    weight = weight.expand_as(target)
    da, db = (x - _as_maps(weighted(x, weight), x) for x in (prediction, target))
    covariance, va, vb = (weighted(x, weight) for x in (da * db, da * da, db * db))
    return covariance / (va * vb).clamp_min(1e-12).sqrt()


def r_squared(prediction: Maps, target: Maps, weight: Weight) -> PerChannel:
    """The share of the target's variance that a prediction explains, of each sample and channel; 1 at best, below 0 if it is worse
    than the mean."""
    weight = weight.expand_as(target)
    residual = weighted((prediction - target) ** 2, weight)
    variance = weighted((target - _as_maps(weighted(target, weight), target)) ** 2, weight)
    return 1 - residual / variance.clamp_min(1e-12)


def dice(probability: Maps, target: Maps, weight: Weight) -> PerChannel:
    """Twice the overlap over the sum of both (Milletari et al. 2016), smoothed by one voxel."""
    weight = weight.expand_as(target)
    axes = tuple(range(2, target.ndim))
    both, all_of = (
        torch.where(weight > 0, x * weight, 0).sum(axes) for x in (probability * target, probability + target)
    )
    return (2 * both + 1) / (all_of + 1)


def _known(prediction: Maps, target: Maps, weight: Weight) -> Maps:
    """The prediction where it counts and the target elsewhere: windows that reach beyond what counts find nothing to compare there."""
    return torch.where(weight > 0, prediction, target)


def _similarity(a: Maps, b: Maps, window: Window, sizes: tuple[int, ...], span: float) -> tuple[Windows, Windows]:
    """SSIM at every place that a window fits into, and its part of contrast and structure."""
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    around = b.mean(tuple(range(2, b.ndim)), keepdim=True)  # moments about a value near all others lose no digits
    a, b = a - around, b - around
    ma, aa, ab = _smooth(torch.cat([a, a * a, a * b]), window, sizes).chunk(3)
    mb, bb = _smooth(torch.cat([b, b * b]), window, sizes).chunk(2)  # apart: targets need no gradients
    voxels = prod(sizes)
    sample = voxels / (voxels - 1) if window == "uniform" else 1.0
    va, vb = (sample * (x - y).clamp_min(0) for x, y in ((aa, ma * ma), (bb, mb * mb)))
    vab = sample * (ab - ma * mb)
    ma, mb = ma + around, mb + around
    contrast = (2 * vab + c2) / (va + vb + c2)
    return (2 * ma * mb + c1) / (ma * ma + mb * mb + c1) * contrast, contrast


def _smooth(x: Windows, window: Window, sizes: tuple[int, ...]) -> Windows:
    """Means over windows that lie inside, axis by axis."""
    if window == "uniform":
        return running_mean(x, sizes)
    for axis, size in enumerate(sizes):
        if size > 1:
            x = _along(x, axis, size)
    return x


def _along(x: Windows, axis: int, size: int) -> Windows:
    """Gaussian means along one spatial axis."""
    offset = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offset / _SIGMA) ** 2)
    ndim, channels = x.ndim - 2, x.shape[1]
    kernel = (weights / weights.sum()).reshape(1, 1, *(size if k == axis else 1 for k in range(ndim)))
    with torch.autocast(
        x.device.type, enabled=False
    ):  # a variance is a small difference of moments, which 8 bits do not hold
        return _CONV[ndim](x, kernel.expand(channels, *kernel.shape[1:]), groups=channels)


def _middle(weight: Windows, sizes: tuple[int, ...]) -> Windows:
    """What the voxel in the middle of each window weighs."""
    for axis, size in enumerate(sizes, 2):
        weight = weight.narrow(axis, (size - 1) // 2, weight.shape[axis] - size + 1)
    return weight


def _as_maps(values: PerChannel, like: Maps) -> Windows:
    return values.reshape(*values.shape, *[1] * (like.ndim - 2))
