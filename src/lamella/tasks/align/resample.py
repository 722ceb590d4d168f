"""Reading sections through fields: what is written to an aligned volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.ops.field import rescale, warp

MARGIN = 2  # coarse pixels around a box that its interpolated field depends on


def read_plane(volume: Volume, z: int, plane: Box) -> NDArray[Any]:
    """``plane`` (y, x) of section ``z``; 0, which is missing data, outside the volume."""
    box = Box((z, *plane.start), (z + 1, *plane.stop))
    inside = box.intersect(volume.box)
    if inside == box:
        return volume.read(box)[0]
    result = np.zeros(box.shape, volume.dtype)
    if not inside.is_empty:
        result[inside.slices(box.start)] = volume.read(inside)
    return result[0]


def read_filled(volumes: Sequence[tuple[Volume, int]], plane: Box) -> NDArray[Any]:
    """``plane`` of the first (volume, section); where that has no data, of the next, and so on."""
    result = read_plane(*volumes[0], plane)
    for volume, z in volumes[1:]:
        holes = result == 0
        if not holes.any():
            break
        result[holes] = read_plane(volume, z, plane)[holes]
    return result


def finer_box(coarse: Box, levels: int, shape: Sequence[int]) -> Box:
    """The fine pixels of a coarse box, cut at a section of ``shape``; both counted from the section's corner."""
    step = 2**levels
    full = Box(tuple(a * step for a in coarse.start), tuple(b * step for b in coarse.stop))
    return full.intersect(Box.of(tuple(shape)))


def interpolate(field: NDArray[np.float32], grown: Box, box: Box, levels: int) -> NDArray[np.float32]:
    """The fine field of ``box`` (fine pixels) from the coarse field of ``grown``, which reaches ``MARGIN`` beyond it."""
    step = 2**levels
    size = (grown.shape[0] * step, grown.shape[1] * step)
    fine = rescale(torch.from_numpy(field)[None], levels, size)[0].numpy()
    origin = tuple(a * step for a in grown.start)
    return fine[:, *box.slices(origin)]


def resample(source: Volume, z: int, plane: Box, field: NDArray[np.float32]) -> NDArray[Any]:
    """Section ``z`` of ``source`` seen through ``field`` (2, y, x), fine pixels, on the grid of ``plane`` (volume coordinates).

    Reads only the part that the field looks at. Missing pixels do not darken their neighbours: each result is the mean of the
    data under the interpolation, and 0 where data has less than half of the weight. Tissue never becomes 0.
    """
    low = np.floor(field.min((1, 2))).astype(int)
    high = np.ceil(field.max((1, 2))).astype(int) + 1
    seen = Box(
        tuple(a + int(n) for a, n in zip(plane.start, low, strict=True)),
        tuple(b + int(n) for b, n in zip(plane.stop, high, strict=True)),
    )
    data = torch.from_numpy(read_plane(source, z, seen).astype(np.float32))[None, None]
    shift = torch.tensor(-low, dtype=torch.float32).view(1, 2, 1, 1)
    where = torch.from_numpy(field)[None] + shift
    present = warp((data != 0).to(data.dtype), where)
    values = warp(data, where) / present.clamp_min(1e-6)
    return _as_dtype(values[0, 0].numpy(), present[0, 0].numpy() >= 0.5, source.dtype)


def _as_dtype(values: NDArray[np.float32], present: NDArray[np.bool_], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), max(limits.min, 1) if dtype.kind == "u" else limits.min, limits.max)
    return np.where(present, values, 0).astype(dtype)
