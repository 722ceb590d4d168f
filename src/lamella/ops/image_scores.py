"""How well an image was predicted, from sums that are taken block by block and added up.

An image is compared plane by plane: ``xy`` has one row of figures for each z, ``xz`` for each y, ``yz`` for each x, and ``xyz`` one
for the whole stack. Each row is made of sums over its voxels, with a weight for each (1, or 0 outside a mask).

Laws: the sums of two parts added are those of both, in any order (means and variances as Chan et al. 1979 add them, so nothing is
lost to large intensities); of blocks with a margin of ``margin_of`` voxels as of the whole; figures agree with scikit-image and
torchmetrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.ops.image_metrics import PLANE_AXIS, Metric, Orientation
from lamella.ops.image_ssim import MS_PAD, MS_SMALLEST, MS_STEP, SCALE_WEIGHTS, Patch, halved, scales, ssim_map

_NUM = len(SCALE_WEIGHTS)
_COLUMNS = (
    *("count", "mean_p", "mean_t", "var_p", "var_t", "cov", "absolute", "squared", "ssim", "ssim_mass"),
    *("both", "on_p", "on_t", "equal"),
    *(f"scale{k}" for k in range(_NUM)),
    *(f"scale_mass{k}" for k in range(_NUM)),
)
_AT = {name: k for k, name in enumerate(_COLUMNS)}


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how: the ``metrics``, the side of SSIM's window, the range of intensities that SSIM and PSNR rest on
    (from the least to the greatest that there can be), and the value above which a voxel belongs to an object."""

    metrics: tuple[Metric, ...] = ("mae", "mse", "r2", "pearson", "ssim", "ms_ssim", "psnr")
    window: int = 7
    data_range: float = 1.0
    threshold: float = 0.5

    def scaled(self, axes: Sequence[int], shape: Sequence[int]) -> bool:
        """Whether MS-SSIM is wanted, and an image of ``shape`` large enough for it."""
        return "ms_ssim" in self.metrics and all(shape[a] >= MS_SMALLEST for a in axes)


@dataclass(frozen=True)
class Sums:
    """``values`` (planes, columns) of one orientation."""

    values: NDArray[np.float64]

    @classmethod
    def zeros(cls, planes: int) -> Sums:
        return cls(np.zeros((planes, len(_COLUMNS))))

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.values[:, _AT[name]]

    def __add__(self, other: Sums) -> Sums:
        """The sums of two parts of the same planes."""
        total = self.values + other.values
        n, own, more = total[:, 0], self["count"], other["count"]
        share = np.divide(more, n, out=np.zeros_like(n), where=n > 0)
        steps = {k: other[f"mean_{k}"] - self[f"mean_{k}"] for k in "pt"}
        for k, step in steps.items():
            total[:, _AT[f"mean_{k}"]] = self[f"mean_{k}"] + step * share
            total[:, _AT[f"var_{k}"]] += step**2 * own * share
        total[:, _AT["cov"]] += steps["p"] * steps["t"] * own * share
        return Sums(total)

    def added(self, first: int, part: Sums) -> Sums:
        """With ``part``, whose planes begin with plane ``first``."""
        values = self.values.copy()
        here = slice(first, first + len(part.values))
        values[here] = (Sums(values[here]) + part).values
        return Sums(values)

    def figures(self, how: Comparison) -> dict[str, NDArray[np.float64]]:
        """Each metric for each plane; NaN where it is not defined: nothing to count, a truth without contrast, too small a plane.

        A prediction without contrast explains nothing: its correlation with a truth that has some is 0.
        """
        n, with_contrast = self["count"], self["var_t"] > 0
        mse = _ratio(self["squared"], n)
        spread = np.sqrt(self["var_p"] * self["var_t"])
        found = {
            "mae": _ratio(self["absolute"], n),
            "mse": mse,
            "r2": np.where(with_contrast, 1 - _ratio(self["squared"], self["var_t"]), np.nan),
            "pearson": np.where(with_contrast, np.nan_to_num(_ratio(self["cov"], spread)), np.nan),
            "ssim": _ratio(self["ssim"], self["ssim_mass"]),
            "ms_ssim": self._ms_ssim(),
            "psnr": _psnr(mse, how.data_range),
            "dice": np.where(
                n > 0, np.nan_to_num(_ratio(2 * self["both"], self["on_p"] + self["on_t"]), nan=1.0), np.nan
            ),
            "accuracy": _ratio(self["equal"], n),
        }
        return {name: found[name] for name in how.metrics}

    def _ms_ssim(self) -> NDArray[np.float64]:
        terms = [_ratio(self[f"scale{k}"], self[f"scale_mass{k}"]) for k in range(_NUM)]
        return np.prod([np.maximum(t, 0) ** w for t, w in zip(terms, SCALE_WEIGHTS, strict=True)], axis=0)


def margin_of(orientations: Sequence[Orientation], how: Comparison, shape: Sequence[int]) -> tuple[int, int, int]:
    """Voxels (z, y, x) around a block that its sums depend on, in an image of ``shape``."""
    margin = np.zeros(3, int)
    for orientation in orientations:
        axes = axes_of(orientation)
        wanted = how.window // 2 if "ssim" in how.metrics else 0
        if how.scaled(axes, shape):
            wanted = max(wanted, MS_PAD * MS_STEP)
        margin[list(axes)] = np.maximum(margin[list(axes)], wanted)
    z, y, x = (-(-int(n) // MS_STEP) * MS_STEP for n in margin)
    return z, y, x


def axes_of(orientation: Orientation) -> tuple[int, ...]:
    """The axes that planes of an orientation lie in, of z y x."""
    return tuple(a for a in range(3) if a != PLANE_AXIS[orientation])


def sums_of(patch: Patch, orientation: Orientation, how: Comparison, weights: NDArray[Any] | None = None) -> Sums:
    """The sums of the planes that ``patch.write`` has voxels of. ``weights`` are of ``patch.read``, 1 everywhere if None.

    Blocks start at multiples of 16 voxels from the start of the image.
    """
    axes = axes_of(orientation)
    plane = PLANE_AXIS[orientation]
    sums = Sums.zeros(1 if plane is None else patch.write.shape[plane])
    mass = np.ones(patch.read.shape) if weights is None else weights.astype(np.float64)
    columns = _plain(patch, axes, how, mass)
    if "ssim" in how.metrics:
        columns |= _structural(patch, axes, how, mass)
    if how.scaled(axes, patch.whole.shape):
        columns |= _multiscale(patch, axes, how, mass)
    for name, values in columns.items():
        sums.values[:, _AT[name]] = values
    return sums


def _plain(patch: Patch, axes: tuple[int, ...], how: Comparison, mass: NDArray[np.float64]) -> dict[str, Any]:
    """What needs no surroundings."""
    inside = patch.write.slices(patch.read.start)
    p, t, w = patch.predicted[inside], patch.true[inside], mass[inside]
    n = w.sum(axes)

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray((w * values).sum(axes))

    means = [np.divide(total(a), n, out=np.zeros_like(n, dtype=float), where=n > 0) for a in (p, t)]
    off_p, off_t = (a - np.expand_dims(m, axes) for a, m in zip((p, t), means, strict=True))
    error = p - t
    columns = {
        "count": n,
        "mean_p": means[0],
        "mean_t": means[1],
        "var_p": total(off_p**2),
        "var_t": total(off_t**2),
        "cov": total(off_p * off_t),
        "absolute": total(np.abs(error)),
        "squared": total(error**2),
    }
    if {"dice", "accuracy"} & set(how.metrics):
        on_p, on_t = p > how.threshold, t > how.threshold
        counts = {"both": on_p & on_t, "on_p": on_p, "on_t": on_t, "equal": on_p == on_t}
        columns |= {name: total(values) for name, values in counts.items()}
    return columns


def _structural(patch: Patch, axes: tuple[int, ...], how: Comparison, mass: NDArray[np.float64]) -> dict[str, Any]:
    sizes = [how.window if a in axes else 1 for a in range(3)]
    counted = patch.counted([n // 2 for n in sizes])
    if counted.is_empty:
        return {}
    here = counted.slices(patch.read.start)
    values = mass[here] * ssim_map(patch.predicted, patch.true, sizes, how.data_range)[here]
    return {"ssim": _by_plane(values, axes, patch, counted), "ssim_mass": _by_plane(mass[here], axes, patch, counted)}


def _multiscale(patch: Patch, axes: tuple[int, ...], how: Comparison, mass: NDArray[np.float64]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for level, (values, counted) in enumerate(scales(patch, axes, how.data_range)):
        if not counted.is_empty:
            here = counted.slices()
            columns[f"scale{level}"] = (mass[here] * values[here]).sum(axes)
            columns[f"scale_mass{level}"] = mass[here].sum(axes)
        mass = halved(mass, axes)
    return columns


def _by_plane(values: NDArray[np.float64], axes: tuple[int, ...], patch: Patch, counted: Box) -> NDArray[np.float64]:
    """Sums of ``counted``, which lacks no plane of ``patch.write``."""
    plane = next((a for a in range(3) if a not in axes), None)
    assert plane is None or counted.shape[plane] == patch.write.shape[plane]
    return np.asarray(values.sum(axes))


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(a, b, out=np.full_like(b, np.nan), where=b > 0)


def _psnr(mse: NDArray[np.float64], data_range: float) -> NDArray[np.float64]:
    """In dB; infinite where nothing differs."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / mse)
