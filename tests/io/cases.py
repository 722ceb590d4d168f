"""The formats under the conformance suite: to join it, a format adds one line here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.rng import stream
from lamella.core.volume import Meta, Volume
from lamella.io import create_volume


@dataclass(frozen=True)
class Case:
    """How a format is asked for, and what it has room for."""

    name: str
    kind: str | None = None
    axes: str = "zyx"
    dtype: str = "uint8"
    mips: bool = True
    whole_sections: bool = False

    def __str__(self) -> str:
        return f"{self.kind or self.name}-{self.axes}-{self.dtype}"


CASES = [
    Case("v.ome.zarr"),
    Case("v.zarr", axes="tczyx", dtype="uint16"),
    Case("v.zarr", axes="nzyx"),
    Case("v.zarr", axes="yx", dtype="float32"),
    Case("v.zarr", dtype="bool"),
    Case("v.zarr", dtype="float16"),
    Case("v.zarr", kind="ome-zarr-0.4"),
    Case("v.zarr", kind="ome-zarr-0.4", axes="czyx", dtype="int32"),
    Case("v.n5"),
    Case("v.n5", axes="czyx", dtype="uint64"),
    Case("v.n5", axes="nzyx", dtype="float64"),
    Case("v", kind="precomputed"),
    Case("v", kind="precomputed", axes="czyx", dtype="float32"),
    Case("v", kind="precomputed", dtype="uint64"),
    Case("v", kind="precomputed", axes="yx", dtype="uint16"),
    Case("v.h5", axes="nzyx", mips=False),
    Case("v.h5", dtype="float32", mips=False),
    Case("v.tif", mips=False),
    Case("v.ome.tif", axes="tczyx", dtype="uint16", mips=False),
    Case("v.tif", axes="yx", dtype="float32", mips=False),
    Case("v", kind="png-folder", mips=False, whole_sections=True),
    Case("v/*.png", dtype="uint16", mips=False, whole_sections=True),
    Case("v", kind="tiff-folder", dtype="float32", mips=False, whole_sections=True),
    Case("v/*.tif", dtype="int16", mips=False, whole_sections=True),
    Case("v", kind="frames", axes="tczyx", dtype="float32", mips=False, whole_sections=True),
    Case("v/im_c*_z*_t*_p*.png", axes="tczyx", dtype="uint16", mips=False, whole_sections=True),
    Case("v.zarr", kind="plate", axes="tczyx", dtype="uint16"),
    Case("v.zarr", kind="plate-0.4"),
]

_LENGTH = {"n": 3, "t": 2, "c": 2, "z": 4, "y": 23, "x": 37}
_START = {"z": 3, "y": 16, "x": 5}


def box_of(case: Case) -> Box:
    """A small box away from the origin on the spatial axes."""
    start = tuple(_START.get(a, 0) for a in case.axes)
    return Box.of(_LENGTH[a] for a in case.axes).shift(start)


def meta_of(case: Case) -> Meta:
    size = {"z": 40.0, "y": 4.5, "x": 4.0}
    return Meta(
        axes=tuple(case.axes),
        voxel_size=tuple(size.get(a, 1.0) for a in case.axes),
        units=tuple("nanometer" if a in "zyx" else "" for a in case.axes),
        channel_names=("DAPI", "<actin> & ünit") if "c" in case.axes else (),
        name="specimen 1",
        translation=tuple({"z": 80.0, "x": -12.5}.get(a, 0.0) for a in case.axes) if "z" in case.axes else (),
        provenance={"command": ["lamella", "align"], "seed": 3, "parent": None},
    )


def new(case: Case, folder: Path, **changes: Any) -> Volume:
    """An empty volume of the case."""
    return create(case, folder, **changes)[0]


def create(case: Case, folder: Path, **changes: Any) -> list[Volume]:
    chunk = {"z": 1, "y": 8, "x": 16, "c": 2}
    asked = {
        "box": box_of(case),
        "dtype": case.dtype,
        "meta": meta_of(case),
        "chunk": tuple(chunk.get(a, 1) for a in case.axes),
        "kind": case.kind,
    }
    return create_volume(str(folder / case.name), **(asked | changes))


def voxels(case: Case, seed: int = 0) -> NDArray[Any]:
    """Random voxels in which every value of a small type can occur."""
    shape, dtype = box_of(case).shape, np.dtype(case.dtype)
    rng = stream(seed, "voxels")
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    return (rng.normal(size=shape) > 0) if dtype.kind == "b" else rng.normal(size=shape).astype(dtype)


def fingerprint(path: Path) -> dict[str, str]:
    """Every file below a path, with the hash of its bytes."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
