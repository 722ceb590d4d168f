"""From the thickness of synthetic cells to a transmitted-light stack, and from stains to a fluorescence image.

Cells hardly absorb light; they delay it. Out of focus a delay becomes bright and dark: for a weak phase object the contrast at the
distance z from focus has the transfer function 2 sin(pi lambda z k^2) (see Guigay 1977), so a structure is dark on one side of focus,
bright on the other, and fades in between. Partly coherent light blurs what is far from focus; the phase ring adds a halo.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from lamella.core.config import Config

Image = NDArray[np.float32]

_MARGIN = 32
_HALO = 9.0  # sigma in pixels of what the phase ring takes away


class Optics(Config):
    """Light and cameras. Lengths are in pixels."""

    step: float = Field(6.0, gt=0, description="defocus from slice to slice, as pi lambda z in squared pixels")
    coherence: float = Field(
        0.035, gt=0, description="blur that grows with the distance from focus, per unit of defocus"
    )
    ring: float = Field(0.35, ge=0, description="contrast of the phase ring, of that out of focus")
    falloff: float = Field(0.3, ge=0, lt=1, description="share of the light that is lost in the darkest corner")
    grain: float = Field(0.012, ge=0, description="noise of the transmitted light, of its brightness")
    photons: float = Field(90.0, gt=0, description="photons per pixel of a stain of brightness 1")
    blur: float = Field(1.2, ge=0, description="sigma of the blur of stains")


def through_focus(
    rng: np.random.Generator, layers: Sequence[Image], heights: Sequence[float], slices: int, optics: Optics
) -> NDArray[np.uint16]:
    """A stack (z, y, x): ``layers`` of delay, each in focus at its height in slices from the middle one."""
    size = layers[0].shape
    layers = [np.pad(layer, _MARGIN, mode="reflect") for layer in layers]  # against what a transform wraps around
    shape = layers[0].shape
    square = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.rfftfreq(shape[1])[None] ** 2
    spectra = [np.fft.rfft2(layer) for layer in layers]
    inside = (slice(_MARGIN, -_MARGIN),) * 2
    ring = sum(layer - ndimage.gaussian_filter(layer, _HALO) for layer in layers)
    stack = np.empty((slices, *size), np.uint16)
    light = 0.5 * illumination(size, optics.falloff)
    for z in range(slices):
        total = np.zeros(square.shape, complex)
        for spectrum, height in zip(spectra, heights, strict=True):
            defocus = (z - slices // 2 - height) * optics.step
            envelope = np.exp(-((optics.coherence * defocus) ** 2) * square * 400)
            total += 2 * np.sin(np.pi * defocus * square * 8) * envelope * spectrum
        contrast = np.fft.irfft2(total, shape) + optics.ring * ring
        seen = light * (1 + 0.22 * contrast[inside]) * (1 + optics.grain * rng.standard_normal(size))
        stack[z] = np.clip(np.rint(seen * 65535), 0, 65535)
    return stack


def fluoresce(rng: np.random.Generator, stain: Image, optics: Optics, offset: float, gain: float) -> NDArray[np.uint16]:
    """The picture that a camera takes of a stain (y, x), with haze from out of focus."""
    haze = 0.12 * ndimage.gaussian_filter(stain, 14.0)
    light = ndimage.gaussian_filter(stain, optics.blur) + haze + 0.02
    photons = rng.poisson(np.maximum(light * illumination(stain.shape, optics.falloff), 0) * optics.photons)
    seen = offset + gain * (photons + rng.normal(0, 1.5, stain.shape))
    return np.clip(np.rint(seen), 0, 65535).astype(np.uint16)


def illumination(shape: Sequence[int], falloff: float) -> Image:
    """Brightness over the field, the same for all images of one microscope: brightest beside the middle."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    square = (y[:, None] - 0.2) ** 2 + (x[None] + 0.15) ** 2
    return (1 - falloff * square / square.max()).astype(np.float32)
