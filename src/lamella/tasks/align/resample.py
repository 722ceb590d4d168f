"""Reading sections through fields: what is written to an aligned volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.io.coarse import Placed
from lamella.ops.affine import moved
from lamella.ops.field import refined, warp
from lamella.ops.tissue import as_tissue
from lamella.ops.torn import refined_torn

_PATCHES, _PATCH = (
    8,
    256,
)  # what is read of a section to measure it: all of up to 2048 pixels, an even spread of larger ones
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


def sampled(volume: Volume, z: int) -> NDArray[Any]:
    """Voxels (1, n) of section ``z`` for its statistics: all of them, or squares spread evenly over a large section."""
    squares = [
        Box((y, x), (y + _PATCH, x + _PATCH)).intersect(Box(volume.box.start[1:], volume.box.stop[1:]))
        for y in _spread(volume.box.start[1], volume.box.stop[1])
        for x in _spread(volume.box.start[2], volume.box.stop[2])
    ]
    return np.concatenate([read_plane(volume, z, square).ravel() for square in squares])[None]


def _spread(start: int, stop: int) -> list[int]:
    """Where up to ``_PATCHES`` patches of ``_PATCH`` pixels begin; without gaps if they cover the range."""
    num = -(-(stop - start) // _PATCH)
    if num <= _PATCHES:
        return [start + i * _PATCH for i in range(num)]
    return [start + round(i * (stop - start - _PATCH) / (_PATCHES - 1)) for i in range(_PATCHES)]


def finer_box(coarse: Box, levels: int, shape: Sequence[int]) -> Box:
    """The fine pixels of a coarse box, cut at a section of ``shape``; both counted from the section's corner."""
    return coarse.refine((2**levels, 2**levels)).intersect(Box.of(tuple(shape)))


def interpolate(
    field: NDArray[np.float32], grown: Box, box: Box, factors: tuple[int, int], *, torn: bool = False
) -> NDArray[np.float32]:
    """The field of ``box`` (fine pixels) from that of ``grown``, ``factors`` (y, x) coarser, which reaches ``MARGIN`` beyond it.

    A ``torn`` field is not interpolated across its jumps. How a section is cut into boxes changes no bit.
    """
    finely = refined_torn if torn else refined
    fine = finely(torch.from_numpy(field)[None], factors)[0].numpy()
    origin = tuple(a * n for a, n in zip(grown.start, factors, strict=True))
    return fine[:, *box.slices(origin)]


def resample(source: Volume, z: int, plane: Box, field: NDArray[np.float32]) -> NDArray[Any]:
    """Section ``z`` of ``source`` seen through ``field`` (2, y, x), fine pixels, on the grid of ``plane`` (volume coordinates).

    Reads only the part that the field looks at. Missing pixels do not darken their neighbours: each result is the mean of the
    data under the interpolation, and 0 where data has less than half of the weight. Tissue never becomes 0. Where the field
    is of whole pixels, voxels of up to 32 bits are copied exactly: places and values are double precision, as single precision loses a
    ten-thousandth of a pixel over a tile, which is several steps of uint16.
    """
    source, field = through(source, z, plane, field)
    seen, where = seen_from(plane, field)
    data = torch.from_numpy(read_plane(source, z, seen).astype(np.float64))[None, None]
    present = warp((data != 0).to(data.dtype), where)
    values = warp(data, where) / present.clamp_min(1e-6)
    return as_tissue(values[0, 0].numpy(), present[0, 0].numpy() >= 0.5, source.dtype)


def nearest(source: Volume, z: int, plane: Box, field: NDArray[np.float32]) -> NDArray[Any]:
    """As ``resample``, for labels: each result is the voxel nearest to where it looks, and 0 outside; no value is new."""
    source, field = through(source, z, plane, field)
    where = np.floor(np.indices(plane.shape) + field.astype(np.float64) + 0.5).astype(np.int64)
    low, high = where.min((1, 2)), where.max((1, 2)) + 1
    seen = Box(tuple(low.tolist()), tuple(high.tolist())).shift(plane.start)
    found: NDArray[Any] = read_plane(source, z, seen)[tuple(where - low[:, None, None])]
    return found


def through(volume: Volume, z: int, plane: Box, field: NDArray[Any]) -> tuple[Volume, NDArray[Any]]:
    """What a volume shows through a field, without reading twice: of a ``Placed`` one, its source and the field that leads there."""
    if not isinstance(volume, Placed):
        return volume, field
    places = np.indices(plane.shape).transpose(1, 2, 0) + np.array(plane.start, np.float64)
    led = moved(volume.matrix(z), places + field.transpose(1, 2, 0)) - places
    return volume.source, led.transpose(2, 0, 1)


def seen_from(plane: Box, field: NDArray[Any]) -> tuple[Box, Tensor]:
    """The box that a field on ``plane`` looks at, and the field (1, 2, y, x) from the corner of that box, in double precision."""
    places = np.indices(plane.shape) + field
    low = np.floor(places.min((1, 2))).astype(int)
    high = np.ceil(places.max((1, 2))).astype(int) + 2
    seen = Box(tuple(low.tolist()), tuple(high.tolist())).shift(plane.start)
    return seen, torch.from_numpy(field - low[:, None, None].astype(np.float64))[None]
