"""From the light of a synthetic specimen to a camera's grey values: uneven illumination, haze, blur, noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from lamella.core.config import Config
from lamella.ops.noise import smooth_noise


class Light(Config):
    """Light and camera."""

    falloff: float = Field(0.6, ge=0, lt=1, description="share of the light that is lost at the darkest side")
    haze: float = Field(0.35, ge=0, description="light from out of focus, of the light around")
    haze_width: float = Field(14.0, gt=0, description="sigma over which that light spreads, in pixels")
    background: float = Field(0.12, ge=0, description="light of the medium, where an average nucleus sends 1")
    blur: float = Field(1.1, ge=0, description="sigma of the objective's blur, in pixels")
    photons: float = Field(60.0, gt=0, description="photons per pixel from an average nucleus in full light")
    read_noise: float = Field(2.5, ge=0, description="rms noise of reading the camera, in photons")
    offset: float = Field(100.0, ge=0, description="grey value without light")
    gain: float = Field(8.0, gt=0, description="grey values per photon")


def expose(rng: np.random.Generator, light: NDArray[np.float32], settings: Light) -> NDArray[np.uint16]:
    """The picture that a camera takes of ``light`` (y, x); the exposure varies by half from picture to picture."""
    haze = ndimage.gaussian_filter(light, settings.haze_width, mode="reflect")
    medium = settings.background * (1 + 0.3 * smooth_noise(rng, light.shape, min(light.shape) / 5))
    seen = (light + settings.haze * haze + np.maximum(medium, 0)) * _illumination(rng, light.shape, settings.falloff)
    seen = ndimage.gaussian_filter(seen, settings.blur, mode="reflect")
    photons = rng.poisson(seen * settings.photons * rng.uniform(0.5, 1.5)) + rng.normal(
        0, settings.read_noise, seen.shape
    )
    return np.clip(np.rint(settings.offset + settings.gain * photons), 0, 65535).astype(np.uint16)


def _illumination(rng: np.random.Generator, shape: tuple[int, ...], falloff: float) -> NDArray[np.float64]:
    """Brightest somewhere in the image, darkest at the corner that is farthest from it."""
    middle = rng.uniform(0.1, 0.9, 2)
    y, x = np.mgrid[: shape[0], : shape[1]]
    square = (y / shape[0] - middle[0]) ** 2 + (x / shape[1] - middle[1]) ** 2
    return 1 - falloff * square / square.max()
