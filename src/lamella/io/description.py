"""What a path holds, for people and for verbs that take every data set of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lamella.core.volume import Volume
from lamella.io.contents import pick
from lamella.io.open import find


@dataclass(frozen=True)
class Description:
    """A file, folder or address: its format, and the volumes of each data set, one per mip, by the data set's name."""

    path: str
    format: str
    datasets: Mapping[str, tuple[Volume, ...]]


def describe(path: str | os.PathLike[str]) -> Description:
    """Everything that is at ``path``; voxels are not read. A path inside a file describes that data set alone."""
    place, contents, inner = find(path, None)
    if inner is not None:
        pick(contents, place, inner)
    chosen = {n: d for n, d in contents.datasets.items() if inner in (None, n)}
    return Description(
        place.url,
        contents.label,
        {n: tuple(d.open(mip, False) for mip in range(d.num_mips)) for n, d in chosen.items()},
    )


def nbytes(volume: Volume) -> int:
    """Bytes of all voxels, uncompressed."""
    return volume.box.size * volume.dtype.itemsize
