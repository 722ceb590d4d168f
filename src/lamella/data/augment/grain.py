"""Grain and focus of whole sections: noise and blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from lamella.data.augment.affine import AxisName
from lamella.data.augment.affine import present as present_axes
from lamella.data.augment.base import Levels, Probability, happens
from lamella.data.augment.cutouts import draw_seed
from lamella.data.augment.shown import ImagingAugment, image_shape, spread
from lamella.data.sample import Sample


@dataclass(frozen=True)
class Grain:
    """std ``(b, c)``, and a seed that gives the noise on the device where it is made."""

    std: NDArray[np.float64]
    seed: int


class Noise(ImagingAugment):
    """Gaussian noise on the whole section."""

    kind: Literal["noise"] = "noise"
    p: Probability = 0.5
    std: Levels = (0.0, 0.05)

    def draw(self, rng: np.random.Generator, sample: Sample) -> Grain:
        shape = image_shape(sample)
        return Grain(rng.uniform(*self.std, shape) * happens(rng, self.p, shape), int(draw_seed(rng, ())))

    def change(self, shown: Float[Tensor, "b c *space"], params: Grain) -> Float[Tensor, "b c *space"]:
        if not params.std.any():
            return shown
        generator = torch.Generator(shown.device).manual_seed(params.seed)
        noise = torch.randn(shown.shape, generator=generator, dtype=shown.dtype, device=shown.device)
        return noise.mul_(spread(params.std, shown)).add_(shown)


@dataclass(frozen=True)
class Focus:
    sigma: NDArray[np.float64]
    """``(b, c)``, pixels; 0 is sharp"""


class Blur(ImagingAugment):
    """Images out of focus: a Gaussian blur along y and x that averages tissue only, never missing data of sections."""

    kind: Literal["blur"] = "blur"
    p: Probability = 0.5
    sigma: Levels = (0.0, 1.0)
    """Standard deviation, voxels."""
    axes: tuple[AxisName, ...] = ("y", "x")
    """Axes to blur; z is passed over in 2D."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Focus:
        shape = image_shape(sample)
        return Focus(rng.uniform(*self.sigma, shape) * happens(rng, self.p, shape))

    def change(self, shown: Float[Tensor, "b c *space"], params: Focus) -> Float[Tensor, "b c *space"]:
        return self._blurred(shown, params, None)

    def change_known(
        self, shown: Float[Tensor, "b c *space"], params: Focus, known: Bool[Tensor, "b c *space"]
    ) -> Float[Tensor, "b c *space"]:
        return self._blurred(shown, params, known)

    def _blurred(
        self, shown: Float[Tensor, "b c *space"], params: Focus, known: Bool[Tensor, "b c *space"] | None
    ) -> Float[Tensor, "b c *space"]:
        """Means of what is ``known`` (None: all of it), weighted by the kernel, which beyond the image holds nothing."""
        chosen = np.flatnonzero(params.sigma > 0)
        if chosen.size == 0:
            return shown
        index = torch.as_tensor(chosen).to(shown.device)
        images = shown.flatten(0, 1)[index]
        weights = gaussian(params.sigma.reshape(-1)[chosen], images)
        present = None if known is None else known.flatten(0, 1)[index]
        total = images if present is None else images * present
        mass = None if present is None else present.to(images.dtype)
        for axis in present_axes(self.axes, shown.ndim - 2):
            total = blur_along(total, weights, axis)
            if mass is not None:
                mass = blur_along(mass, weights, axis)
            else:  # one line tells what the kernel holds along this axis
                line = images.new_ones([n if k in (0, images.ndim + axis) else 1 for k, n in enumerate(images.shape)])
                total = total / blur_along(line, weights, axis)
        changed = shown.flatten(0, 1).clone()
        if present is not None and mass is not None:
            total = torch.where(present, total / mass.clamp_min(1e-6), images)
        changed[index] = total
        return changed.reshape(shown.shape)


def gaussian(sigma: NDArray[np.float64], like: Tensor) -> Float[Tensor, "n taps"]:
    """One Gaussian kernel per image, out to three standard deviations of the widest."""
    radius = int(np.ceil(3 * sigma.max()))
    offset = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    return torch.as_tensor(weights / weights.sum(1, keepdims=True), dtype=like.dtype).to(like.device)


def blur_along(
    images: Float[Tensor, n * space], weights: Float[Tensor, "n taps"], axis: int
) -> Float[Tensor, n * space]:
    """Each image convolved with its own kernel along ``axis``, counted from the end; outside is 0."""
    num, taps = weights.shape
    moved = images.movedim(axis, -1)
    rows = moved.reshape(1, num, -1, moved.shape[-1])
    blurred = F.conv2d(rows, weights.reshape(num, 1, 1, taps), padding=(0, taps // 2), groups=num)
    return blurred.reshape(moved.shape).movedim(-1, axis)
