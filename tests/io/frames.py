"""A small experiment as a folder of frames, with its voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from lamella.core.rng import stream

Place = tuple[int, int, int, int]  # t, c, z, p
Planes = dict[Place, NDArray[np.uint16]]

SIZE = (24, 40)
# channel 0 at all slices, channel 1 at slice 2 only, as where one plane is stained
EVERY = [(t, 0, z, p) for t in (0, 1) for z in (1, 2, 3) for p in (0, 2)]
ONE = [(t, 1, 2, p) for t in (0, 1) for p in (0, 2)]


def numbered(place: Place) -> str:
    t, c, z, p = place
    return f"im_c{c:03d}_z{z:03d}_t{t:03d}_p{p:03d}.png"


def by_channel(place: Place) -> str:
    t, c, z, p = place
    return f"img_{('phase', 'DAPI_2')[c]}_t{t:03d}_p{p:03d}_z{z:03d}.tif"


def write_frames(folder: Path, name: Callable[[Place], str] = numbered) -> Planes:
    """Random planes, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    planes = {}
    for place in EVERY + ONE:
        planes[place] = stream(0, *place).integers(1, 60000, SIZE).astype(np.uint16)
        iio.imwrite(folder / name(place), planes[place])
    return planes


def stack(planes: Planes, p: int) -> NDArray[np.uint16]:
    """The position as (t, c, z, y, x) from slice 1 on; 0 where there is no frame."""
    array = np.zeros((2, 2, 3, *SIZE), np.uint16)
    for (t, c, z, q), plane in planes.items():
        if p == q:
            array[t, c, z - 1] = plane
    return array
