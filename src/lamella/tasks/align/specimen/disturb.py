"""What knife, grid and microscope do to the sections of the synthetic specimen, with the truth kept.

``truth`` lies on the clean grid and tells each clean pixel where to look in the disturbed section, in pixels (dy, dx):
``clean(x) == disturbed(x + truth(x))``. ``inverse`` lies on the disturbed grid: ``disturbed(y) == clean(y + inverse(y))``.
Both come from the same smooth field, known as a spline, so they invert each other to a few hundredths of a pixel. A crack and a fold
move tissue along one axis only, which has an exact inverse on each side of the seam:

```
 crack    tissue|      |tissue      pulled apart by its width, nothing in between
 fold       tissue|#|tissue         pushed together, what the dark band swallows has no counterpart
```
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.interpolate import RectBivariateSpline

from lamella.ops.noise import smooth_noise

_NODE = 4  # px between the nodes of a smooth field
_NEAR = 16  # px around a defect that the ternary mask calls near
_FOLD_BAND = 0.6  # visible half width of a fold, as a fraction of the tissue it swallows


@dataclass(frozen=True)
class Motion:
    """A section's true field and its inverse, (2, y, x) each, and what cracks and folds leave behind.

    ``hidden`` (clean grid): no counterpart in the disturbed section. ``gap`` and ``band`` (disturbed grid): inside a crack, on a
    fold.
    """

    truth: NDArray[np.float32]
    inverse: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    gap: NDArray[np.bool_]
    band: NDArray[np.bool_]


def smooth_motion(
    rng: np.random.Generator,
    shape: tuple[int, int],
    shift: NDArray[np.floating],
    angle: float,
    amplitude: float,
    scale: float,
) -> Motion:
    """A shift (dy, dx) in px, a rotation about the centre in rad, and a random smooth deformation (rms px, px)."""
    pad = int(np.ceil(np.abs(shift).max() + np.abs(angle) * max(shape) + 4 * amplitude)) + 2 * _NODE
    nodes = [np.arange(-pad, n + pad + _NODE, _NODE, dtype=float) for n in shape]
    y, x = np.meshgrid(*(n - (s - 1) / 2 for n, s in zip(nodes, shape, strict=True)), indexing="ij")
    deformation = amplitude * smooth_noise(rng, (2, *y.shape), (0.0, scale / _NODE, scale / _NODE)) if amplitude else 0
    cos, sin = np.cos(angle), np.sin(angle)
    field = np.stack([cos * y - sin * x - y, sin * y + cos * x - x]) + shift[:, None, None] + deformation
    splines = [RectBivariateSpline(*nodes, component) for component in field]
    pixels = [np.arange(n, dtype=float) for n in shape]
    truth = np.stack([s(*pixels) for s in splines])
    inner = [n[(n >= -2 * _NODE) & (n <= s + 2 * _NODE)] for n, s in zip(nodes, shape, strict=True)]
    back = [RectBivariateSpline(*inner, component)(*pixels) for component in _invert(splines, inner)]
    nothing = np.zeros(shape, bool)
    return Motion(truth.astype(np.float32), np.stack(back).astype(np.float32), nothing, nothing, nothing)


def _invert(splines: list[RectBivariateSpline], nodes: list[NDArray[np.floating]]) -> NDArray[np.floating]:
    """The field g with g(y) = -u(y + g(y)) at the nodes, by fixed-point iteration."""
    y = np.stack(np.meshgrid(*nodes, indexing="ij"))
    g = -np.stack([s(*nodes) for s in splines])
    for _ in range(12):
        g = -np.stack([s.ev(y[0] + g[0], y[1] + g[1]) for s in splines])
    return g


def crack(rng: np.random.Generator, motion: Motion, width: float) -> Motion:
    """Pull the section apart along a wandering seam, ``width`` px at its widest, closed at both ends."""
    return _seam(rng, motion, width, opening=True)


def fold(rng: np.random.Generator, motion: Motion, width: float) -> Motion:
    """Push the section together along a wandering seam, where up to ``width`` px of tissue disappear."""
    return _seam(rng, motion, width, opening=False)


def _seam(rng: np.random.Generator, motion: Motion, width: float, opening: bool) -> Motion:
    if rng.random() < 0.5:  # the same along the other axis
        return _transpose(_seam_along_y(rng, _transpose(motion), width, opening))
    return _seam_along_y(rng, motion, width, opening)


def _seam_along_y(rng: np.random.Generator, motion: Motion, width: float, opening: bool) -> Motion:
    h, w = motion.hidden.shape
    seam, half = _course(rng, h, w), _opening(rng, h, width / 2)
    rows, columns = np.mgrid[:h, :w].astype(np.float32)
    sign = 1.0 if opening else -1.0
    # Where clean tissue lies before the seam is made, and to which side of the seam.
    y, x = rows + motion.truth[0], columns + motion.truth[1]
    side = np.where(x < _row(seam, y), -1, 1)
    truth = motion.truth.copy()
    truth[1] += sign * side * _row(half, y)
    swallowed = np.zeros((h, w), bool) if opening else np.abs(x - _row(seam, y)) <= _row(half, y)
    # The same seen from the disturbed side.
    from_seam = columns - seam[:, None]
    offset = -sign * np.where(from_seam < 0, -1, 1) * half[:, None]
    inverse = _resample(motion.inverse, (rows, columns + offset))
    inverse[1] += offset
    visible = half[:, None] if opening else np.maximum(_FOLD_BAND * half[:, None], 2) * (half[:, None] > 0.5)
    made = np.abs(from_seam) < visible
    moved = [
        _resample(m[None].astype(np.float32), (rows, columns + offset))[0] > 0.5 for m in (motion.gap, motion.band)
    ]
    return Motion(
        truth,
        inverse,
        motion.hidden | swallowed,
        (moved[0] & ~made) | (made & opening),
        (moved[1] & ~made) | (made & (not opening)),
    )


def _transpose(motion: Motion) -> Motion:
    truth, inverse = (np.ascontiguousarray(f[::-1].swapaxes(1, 2)) for f in (motion.truth, motion.inverse))
    return Motion(truth, inverse, motion.hidden.T, motion.gap.T, motion.band.T)


def _course(rng: np.random.Generator, length: int, width: int) -> NDArray[np.floating]:
    """Where a seam crosses each row: a smooth random walk in the middle of the image."""
    walk = np.cumsum(ndi.gaussian_filter1d(rng.standard_normal(length), 5))
    return np.clip(walk - walk.mean() + rng.uniform(0.35, 0.65) * width, 0.1 * width, 0.9 * width).astype(np.float32)


def _opening(rng: np.random.Generator, length: int, half: float) -> NDArray[np.floating]:
    """Half the seam's width in each row; it tapers to nothing at both ends of its run through most of the section."""
    first, last = rng.uniform(-0.1, 0.15) * length, rng.uniform(0.85, 1.1) * length
    along = np.clip((np.arange(length) - first) / (last - first), 0, 1)
    return (half * np.sqrt(np.clip(np.sin(np.pi * along), 0, 1))).astype(np.float32)


def _row(values: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.interp(y.ravel(), np.arange(len(values)), values).reshape(y.shape).astype(np.float32)


def _resample(
    layers: NDArray[np.floating], where: tuple[NDArray[np.floating], NDArray[np.floating]]
) -> NDArray[np.floating]:
    return np.stack([ndi.map_coordinates(c, where, order=1, mode="nearest") for c in layers])


def move(canvas: NDArray[np.floating], motion: Motion, margin: int) -> NDArray[np.floating]:
    """The disturbed section of a clean ``canvas``, which reaches ``margin`` px beyond the section on every side."""
    h, w = motion.hidden.shape
    rows, columns = np.mgrid[:h, :w] + margin + motion.inverse
    return ndi.map_coordinates(canvas, (rows, columns), order=3, mode="reflect").astype(np.float32)


def show_defects(rng: np.random.Generator, grey: NDArray[np.floating], motion: Motion) -> NDArray[np.floating]:
    """Fill cracks with bare resin or support film, and darken folds, where tissue lies double."""
    speckle = 0.03 * smooth_noise(rng, grey.shape, 1.5)
    bare = rng.choice([0.07, 0.93]) + speckle
    soft = ndi.gaussian_filter(motion.gap.astype(np.float32), 0.8)
    grey = grey * (1 - soft) + bare * soft
    shade = ndi.gaussian_filter(motion.band.astype(np.float32), 1.5)
    return (grey * (1 - 0.8 * np.clip(shade, 0, 1))).astype(np.float32)


def patch(rng: np.random.Generator, shape: tuple[int, int], radius: float) -> NDArray[np.bool_]:
    """An uneven blob of about ``radius`` px that lies wholly in the image."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centre = [rng.uniform(min(1.5 * radius, n / 2), max(n - 1.5 * radius, n / 2)) for n in shape]
    uneven = 0.25 * radius * smooth_noise(rng, shape, max(radius / 4, 1))
    return np.hypot(y - centre[0], x - centre[1]) + uneven < radius


def image(rng: np.random.Generator, grey: NDArray[np.floating], strength: float, noise: float) -> NDArray[np.floating]:
    """What the microscope records: gamma, contrast, brightness and shading vary by ``strength`` (0 to 1), then blur and noise."""
    shape = grey.shape
    x = np.clip(grey, 0, 1) ** np.exp(strength * rng.uniform(-0.35, 0.35))
    shading = smooth_noise(rng, shape, min(shape) / 5)
    x = (x - 0.5) * (1 + strength * rng.uniform(-0.4, 0.15)) + 0.5
    x = x + strength * (rng.uniform(-0.12, 0.12) + 0.045 * shading)
    x = ndi.gaussian_filter(x, 0.7 + 0.5 * strength * rng.random())
    grain = 0.8 * rng.standard_normal(shape) + 0.6 * smooth_noise(rng, shape, 0.7)
    return (x + noise * (1 + strength * rng.uniform(-0.3, 0.5)) * grain).astype(np.float32)


def record(grey: NDArray[np.floating], missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """8-bit values, where 0 stands for missing data and for nothing else."""
    return np.where(missing, 0, np.clip(np.rint(grey * 255), 1, 255)).astype(np.uint8)


def ternary(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """2 inside a defect, 1 within 16 px of one, 0 elsewhere."""
    if not inside.any():
        return np.zeros(inside.shape, np.uint8)
    return np.where(inside, 2, ndi.distance_transform_edt(~inside) <= _NEAR).astype(np.uint8)


def hide(motion: Motion, missing: NDArray[np.bool_]) -> Motion:
    """Mark as hidden every clean pixel that lands outside the disturbed section or on its missing data."""
    h, w = motion.hidden.shape
    rows, columns = np.mgrid[:h, :w] + motion.truth
    lost = ndi.map_coordinates(missing.astype(np.float32), (rows, columns), order=1, mode="constant", cval=1.0) > 0
    outside = (rows < 0) | (rows > h - 1) | (columns < 0) | (columns > w - 1)
    return replace(motion, hidden=motion.hidden | lost | outside)
