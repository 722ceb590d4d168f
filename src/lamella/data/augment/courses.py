"""Lines that wander over a section as cracks and wrinkles do: in any direction, tapering, branching.

A course is a walk in steps of one pixel whose heading strays from its direction and comes back to it. Its half-width follows a profile that is thin at the ends and uneven
between them. Everything is drawn into points, so that drawing holds the chance and ``cover`` only rasterises:

```
            /‾‾‾ branch, thinner
start ──────┬────────── end        half-width 0 ‹ ... › 0
```
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.signal import lfilter

_BENDS = (
    (0.35, 60.0),
    (0.45, 4.0),
)  # radians by which the heading strays, and pixels over which it does: bends, and jags
_UNEVEN = 24  # pixels over which the width changes


@dataclass(frozen=True)
class Course:
    """Points (n, 2), y and x in pixels, and the half-width at each, pixels."""

    points: NDArray[np.float32]
    half: NDArray[np.float32]


def wander(
    rng: np.random.Generator, space: tuple[int, ...], length: float, half: float, branches: float, turn: float
) -> tuple[Course, ...]:
    """A course of about ``length`` pixels through a place of ``space``, ``half`` pixels to each side at its widest.

    ``branches`` is the mean number of branches, ``turn`` how much it winds: 0 is straight, 1 winds as much as cracks do.
    """
    place = rng.uniform(0.1, 0.9, 2) * np.array(space)
    heading = rng.uniform(0, 2 * np.pi)
    trunk = _walk(rng, place, heading, length, turn)
    trunk = Course((trunk.points - trunk.points[len(trunk.points) // 2] + place).astype(np.float32), trunk.half * half)
    found = [trunk]
    for _ in range(rng.poisson(branches)):
        at = int(rng.integers(len(trunk.points) // 5, max(4 * len(trunk.points) // 5, 1)))
        before = trunk.points[max(at - 5, 0)]
        along = np.arctan2(*(trunk.points[at] - before))
        aside = along + rng.choice((-1, 1)) * rng.uniform(0.4, 1.2)
        limb = _walk(rng, trunk.points[at], aside, length * rng.uniform(0.15, 0.5), turn, tapers=False)
        found.append(Course(limb.points, limb.half * float(trunk.half[at]) * rng.uniform(0.4, 0.9)))
    return tuple(found)


def _walk(
    rng: np.random.Generator,
    start: NDArray[np.floating],
    heading: float,
    length: float,
    turn: float,
    tapers: bool = True,
) -> Course:
    """A walk with half-widths up to 1; without ``tapers`` only its far end is thin."""
    num = max(int(length), 8)
    headings = heading + turn * sum(size * _drift(rng, num, over) for size, over in _BENDS)
    points = start + np.cumsum(np.stack([np.sin(headings), np.cos(headings)], 1), 0)
    along = (np.arange(num) + 0.5) / num
    taper = np.minimum(along if tapers else 1.0, 1 - along) * rng.uniform(4, 16)
    noise = ndi.gaussian_filter1d(rng.standard_normal(num), _UNEVEN, mode="nearest")
    uneven = 1 + 0.35 * noise / max(float(noise.std()), 1e-6)
    half = np.clip(taper, 0, 1) * np.clip(uneven, 0.25, 1.75) / 1.75
    return Course(points.astype(np.float32), half.astype(np.float32))


def _drift(rng: np.random.Generator, num: int, over: float) -> NDArray[np.float64]:
    """Noise of unit variance that forgets itself over so many pixels."""
    keep = np.exp(-1 / over)
    kicks = rng.standard_normal(num)
    kicks[1:] *= np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1.0, -keep], kicks))


def cover(courses: tuple[Course, ...], space: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth below the edge of the nearest course in pixels, positive inside, and the half-width there; both (y, x).

    Beyond the reach of the widest course, the depth is only known to be negative.
    """
    widest = max(float(c.half.max()) for c in courses)
    pad = int(np.ceil(widest)) + 2
    points = np.concatenate([c.points for c in courses]) + pad
    half = np.concatenate([c.half for c in courses])
    shape = tuple(n + 2 * pad for n in space)
    pixels = np.rint(points).astype(int)
    seen = (pixels >= 0).all(1) & (pixels < shape).all(1)
    if not seen.any():
        return np.full(space, -1e3, np.float32), np.zeros(space, np.float32)
    widths = np.zeros(shape, np.float32)
    np.maximum.at(widths, tuple(pixels[seen].T), np.maximum(half[seen], 1e-3))
    distance, nearest = ndi.distance_transform_edt(widths == 0, return_indices=True)
    there = widths[tuple(nearest)]
    inner = (slice(pad, -pad),) * 2
    return (there - distance)[inner].astype(np.float32), there[inner]
