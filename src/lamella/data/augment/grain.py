"""Grain and focus of whole sections: noise and blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

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
    """Sections out of focus: a Gaussian blur along y and x that averages tissue only, never missing data."""

    kind: Literal["blur"] = "blur"
    p: Probability = 0.5
    sigma: Levels = (0.0, 1.0)
    """Standard deviation, pixels."""

    def draw(self, rng: np.random.Generator, sample: Sample) -> Focus:
        shape = image_shape(sample)
        return Focus(rng.uniform(*self.sigma, shape) * happens(rng, self.p, shape))

    def change(self, shown: Float[Tensor, "b c *space"], params: Focus) -> Float[Tensor, "b c *space"]:
        chosen = np.flatnonzero(params.sigma > 0)
        if chosen.size == 0:
            return shown
        index = torch.as_tensor(chosen).to(shown.device)
        images = shown.flatten(0, 1)[index].reshape(
            chosen.size, -1, *shown.shape[-2:]
        )  # z, or 1, takes the place of channels
        weights = gaussian(params.sigma.reshape(-1)[chosen], images)
        present = (images != 0).to(images.dtype)
        mean = blur_plane(images, weights) / blur_plane(present, weights).clamp_min(1e-6)
        sharp = shown.flatten(0, 1).clone()
        sharp[index] = torch.where(images == 0, images, mean).reshape(-1, *shown.shape[2:])
        return sharp.reshape(shown.shape)


def gaussian(sigma: NDArray[np.float64], like: Tensor) -> Float[Tensor, "n taps"]:
    """One Gaussian kernel per image, out to three standard deviations of the widest."""
    radius = int(np.ceil(3 * sigma.max()))
    offset = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    return torch.as_tensor(weights / weights.sum(1, keepdims=True), dtype=like.dtype).to(like.device)


def blur_plane(images: Float[Tensor, "n z h w"], weights: Float[Tensor, "n taps"]) -> Float[Tensor, "n z h w"]:
    """Each image convolved with its own kernel along y and along x; outside is 0."""
    num, depth, taps = images.shape[0], images.shape[1], weights.shape[1]
    kernel = weights.repeat_interleave(depth, 0)
    flat = images.reshape(1, num * depth, *images.shape[-2:])
    flat = F.conv2d(flat, kernel.reshape(-1, 1, taps, 1), padding=(taps // 2, 0), groups=num * depth)
    flat = F.conv2d(flat, kernel.reshape(-1, 1, 1, taps), padding=(0, taps // 2), groups=num * depth)
    return flat.reshape(images.shape)
