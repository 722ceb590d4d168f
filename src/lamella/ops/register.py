"""How one section lies on another: a shift, a rigid or an affine transform, over any distance and angle, without a first guess.

```
look      128 px, every angle: masked phase correlation (Padfield, IEEE TIP 2012) tells the shift; the best few go on
nearby    the same at angles around these
refine    256 px, 512 px, ...: blocks are correlated, and RANSAC fits the transform on which most of them agree
```

Sections are (y, x), 0 where data is missing. Transforms are those of ``ops.affine``: they lead from the target to the source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import ransac
from skimage.registration import phase_cross_correlation
from skimage.transform import AffineTransform, EuclideanTransform

from lamella.ops.affine import Matrix, at_scale, moved, pull, shifted, turned

Model = Literal["shift", "rigid", "affine"]
Image = NDArray[np.float32]

_LOOK = 128  # px of a section's longer side when all angles are tried; tissue persists at such a size where it persists at all
_ANGLE = 6.0  # degrees between angles; at 128 px it blurs the rim by 3 px
_AROUND = (-4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5)
_NEARBY, _REFINED = 4, 2  # angles that go on to each stage
_OVERLAP = 0.3  # least share of a section that lies on the other
_SIGMA = 6.0  # px of the surroundings by which contrast is normalised
_TOLERANCE = 3.0  # px that a block may be off and still agree
_FEWEST = 8  # blocks


@dataclass(frozen=True)
class Registered:
    """A transform from target to source, the share of blocks that ``agree`` on it (0 where none was found) and how far those are off
    on the median (``residual``, px)."""

    matrix: Matrix
    agree: float
    residual: float


def register(
    target: NDArray[Any], source: NDArray[Any], model: Model = "affine", turn: float | int = 180.0
) -> Registered:
    """The transform by which ``source`` lies on ``target``; rotations of up to ``turn`` degrees are tried.

    Sections may differ in size. They should be a few hundred pixels wide: the work grows with their area.
    """
    levels = _pyramid(target, source)
    fixed, moving = (Seen.of(image) for image in levels[-1])
    angles = np.unique(np.concatenate([np.arange(0, turn + 1e-6, _ANGLE), -np.arange(0, min(turn, 179.9), _ANGLE)]))
    if model == "shift":
        angles = np.zeros(1)
    first = sorted((_looked(fixed, moving, angle) for angle in angles), key=lambda found: -found[0])[:_NEARBY]
    if model != "shift":
        first = sorted((_nearby(fixed, moving, matrix) for _, matrix in first), key=lambda found: -found[0])
    tried = [_refined(levels, matrix, model) for _, matrix in first[:_REFINED]]
    return max(tried, key=lambda found: found.agree)


@dataclass(frozen=True)
class Seen:
    """A section with its local contrast made even (mean 0, spread about 1), and where it holds data."""

    image: Image
    present: NDArray[np.bool_]

    @classmethod
    def of(cls, section: NDArray[Any]) -> Seen:
        present = section != 0
        share = ndi.gaussian_filter(present.astype(np.float32), _SIGMA) + 1e-6
        image = section.astype(np.float32)
        rest = np.where(present, image - ndi.gaussian_filter(image, _SIGMA) / share, 0)
        spread = ndi.gaussian_filter(rest**2, _SIGMA) / share
        floor = 1e-3 * float(rest.var()) + 1e-9
        return cls(np.asarray(rest / np.sqrt(spread + floor), np.float32), present)

    def through(self, matrix: Matrix, shape: Sequence[int]) -> Seen:
        present = pull(self.present.astype(np.float32), matrix, shape) > 0.5
        return Seen(np.where(present, pull(self.image, matrix, shape), 0).astype(np.float32), present)


def halved(section: NDArray[Any]) -> Image:
    """A section of half the size: means over the data in 2 × 2 pixels, missing (0) where most is."""
    h, w = (n // 2 for n in section.shape)
    cut = section[: 2 * h, : 2 * w].reshape(h, 2, w, 2).astype(np.float32)
    count = (cut != 0).sum((1, 3))
    mean: Image = np.where(count >= 2, cut.sum((1, 3)) / np.maximum(count, 1), 0).astype(np.float32)
    return mean


def _pyramid(target: NDArray[Any], source: NDArray[Any]) -> list[tuple[Image, Image]]:
    """The pair, and it halved until it is small enough to be looked at."""
    levels = [(target.astype(np.float32), source.astype(np.float32))]
    while max(*levels[-1][0].shape, *levels[-1][1].shape) > _LOOK:
        levels.append((halved(levels[-1][0]), halved(levels[-1][1])))
    return levels


def _looked(target: Seen, source: Seen, degrees: float | int) -> tuple[float, Matrix]:
    """The best shift at one angle: the correlation there, and the transform."""
    side = int(np.ceil(max(np.hypot(*target.image.shape), np.hypot(*source.image.shape))))
    middle = [(n - 1) / 2 for n in source.image.shape]
    return _shift(target, source, turned(degrees, ((side - 1) / 2,) * 2, middle), (side, side))


def _nearby(target: Seen, source: Seen, matrix: Matrix) -> tuple[float, Matrix]:
    """The best of the angles around a transform's."""
    middle = [(n - 1) / 2 for n in target.image.shape]
    tried = (_shift(target, source, matrix @ turned(d, middle, middle), target.image.shape) for d in _AROUND)
    return max(tried, key=lambda found: found[0])


def _shift(target: Seen, source: Seen, matrix: Matrix, shape: Sequence[int]) -> tuple[float, Matrix]:
    """The shift that is best after a transform whose result is cut to ``shape``, with its correlation."""
    moving = source.through(matrix, shape)
    if not (moving.present.any() and target.present.any()):
        return -1.0, matrix
    lack = [(0, m - n) for m, n in zip(shape, target.image.shape, strict=True)]  # both must have one size
    fixed, known = np.pad(target.image, lack), np.pad(target.present, lack)
    shift = phase_cross_correlation(
        fixed, moving.image, reference_mask=known, moving_mask=moving.present, overlap_ratio=_OVERLAP
    )[0]
    matrix = matrix @ shifted(-shift)
    return _correlation(target, source.through(matrix, target.image.shape)), matrix


def _correlation(a: Seen, b: Seen) -> float:
    """Pearson's r where both hold data; -1 where that is too little."""
    both = a.present & b.present
    if both.sum() < max(_OVERLAP / 2 * min(a.present.sum(), b.present.sum()), 64):
        return -1.0
    p, q = (image[both] - image[both].mean() for image in (a.image, b.image))
    return float((p * q).sum() / np.sqrt((p * p).sum() * (q * q).sum() + 1e-12))


def _refined(levels: list[tuple[Image, Image]], matrix: Matrix, model: Model) -> Registered:
    """A transform of the coarsest level, refined level by level; it is rigid at the first, where few blocks are."""
    found = Registered(matrix, 0.0, np.nan)
    for n, (target, source) in enumerate(reversed(levels)):
        matrix = at_scale(found.matrix, 0.5) if n else found.matrix
        step = "rigid" if n == 0 and model == "affine" else model
        for _ in range(2):
            found = _fitted(target, source, matrix, step)
            matrix = found.matrix
    return found


def _fitted(target: Image, source: Image, matrix: Matrix, model: Model) -> Registered:
    """The transform of ``model`` on which most blocks agree, ``matrix`` if too few do."""
    here, there = _blocks(target, source, matrix)
    nothing = Registered(matrix, 0.0, np.nan)
    if len(here) < _FEWEST:
        return nothing
    led = moved(matrix, there)
    fit, num = _FITS[model]
    agreed, inside = ransac((here, led), fit, min_samples=num, residual_threshold=_TOLERANCE, max_trials=200, rng=0)
    if agreed is None or inside.sum() < num + 2:
        return nothing
    off = agreed.residuals(here[inside], led[inside])
    return Registered(np.asarray(agreed.params, float), float(inside.mean()), float(np.median(off)))


def _blocks(target: Image, source: Image, matrix: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles of half-overlapping blocks of the target, and the places that they fit in the source as ``matrix`` moves it."""
    fixed, whole = Seen.of(target), pull((source != 0).astype(np.float32), matrix, target.shape)
    image = np.where(whole > 0.99, pull(source, matrix, target.shape) / np.maximum(whole, 1e-6), 0)
    moving = Seen.of(image)
    side = int(np.clip(min(target.shape) // 6 * 2, 32, 128))
    window = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
    here, there = [], []
    for y in range(0, target.shape[0] - side + 1, side // 2):
        for x in range(0, target.shape[1] - side + 1, side // 2):
            cut = np.s_[y : y + side, x : x + side]
            if (fixed.present[cut] & moving.present[cut]).mean() < 0.7:
                continue
            pair = fixed.image[cut] * window, moving.image[cut] * window
            shift = phase_cross_correlation(*pair, upsample_factor=20, normalization=None)[0]
            middle = np.array([y, x]) + (side - 1) / 2
            if np.abs(shift).max() <= side / 3:
                here.append(middle)
                there.append(middle - shift)
    return np.array(here).reshape(-1, 2), np.array(there).reshape(-1, 2)


class Shift:
    """A shift as scikit-image's RANSAC fits it."""

    def __init__(self) -> None:
        self.params: Matrix = np.eye(3)

    @classmethod
    def from_estimate(cls, here: NDArray[Any], there: NDArray[Any]) -> Shift:
        """As ``estimate``, for versions of scikit-image from 0.26 on."""
        found = cls()
        found.estimate(here, there)
        return found

    def estimate(self, here: NDArray[Any], there: NDArray[Any]) -> bool:
        self.params = shifted((there - here).mean(0))
        return True

    def residuals(self, here: NDArray[Any], there: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.hypot(*(moved(self.params, here) - there).T)
        return found


_FITS: dict[str, tuple[Callable[[], Any], int]] = {
    "shift": (Shift, 1),
    "rigid": (EuclideanTransform, 2),
    "affine": (AffineTransform, 3),
}
