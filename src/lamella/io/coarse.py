"""Where the sections of a volume lie, roughly: one affine transform for each, and the volume read through them.

``lamella prep coarse`` measures them at a high mip and writes a small JSON file, ``Coarse``. Its matrices are of mip 0: they lead from a
place (y, x, 1) of the output to the place in the section (see ``lamella.ops.affine``). ``Placed`` is the volume at any mip, each
section seen through its own transform, worked out as it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io.base import check_box
from lamella.io.open import open_volume
from lamella.io.views import View
from lamella.ops.affine import Matrix, at_scale, hull, pull, shifted, union
from lamella.ops.tissue import as_tissue


class Link(Config):
    """How a section lies on an earlier one: ``matrix`` leads from that one's places to this one's, voxels of mip 0."""

    to: int
    matrix: list[list[float]]
    agree: float
    residual: float | None


class Section(Config):
    """The transform of one section (2 × 3), how it was found, and the links that were tried."""

    z: int
    state: Literal["anchor", "placed", "unsure", "lost"]
    matrix: list[list[float]]
    confidence: float
    after: int | None
    triangle: float | None
    links: list[Link]


class Coarse(Config):
    """What ``lamella prep coarse`` measured; lengths in voxels of mip 0, confidences from 0 to 1."""

    kind: Literal["coarse alignment"]
    about: str
    source: str
    dataset: str | None
    box: str
    voxel_size: list[float]
    mip: int
    fingerprint: str
    settings: dict[str, Any]
    anchor: int
    joints: list[int]
    output: str
    sections: list[Section]
    provenance: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> Coarse:
        """The measurement in a file; a UserError if it is none."""
        try:
            values = json.loads(Path(path).read_text())
        except OSError as error:
            raise UserError(
                f"cannot read {path}: {error.strerror}; make it with: lamella prep coarse SOURCE {path}"
            ) from None
        except ValueError:
            values = None
        if not isinstance(values, dict) or values.get("kind") != "coarse alignment":
            raise UserError(f"{path} is no coarse alignment; make one with: lamella prep coarse SOURCE {path}")
        return cls.load(values, str(path))

    @property
    def matrices(self) -> NDArray[np.float64]:
        """The transforms of all sections, (z, 3, 3), in voxels of mip 0."""
        found = np.tile(np.eye(3), (len(self.sections), 1, 1))
        found[:, :2] = [section.matrix for section in self.sections]
        return found

    def view(self, volume: Volume, told: str = "") -> Placed:
        """``volume``, the measured one at any of its mips, with the sections where they belong. ``told`` is where this was read.

        Raises UserError for a volume whose sections or voxels are not those that were measured.
        """
        whole = Box.read(self.box)
        first, plane = self.sections[0].z, _plane(whole)
        box, factor = volume.box, np.divide(volume.meta.voxel_size[-2:], self.voxel_size[-2:])
        measured = f"the coarse alignment was measured on {self.source} with box {self.box} and voxels of {_size(self.voxel_size)}"
        again = "measure this one with: lamella prep coarse"
        if volume.meta.axes != ("z", "y", "x") or (box.start[0], box.stop[0]) != (
            whole.start[0],
            whole.stop[0],
        ):
            raise UserError(
                f"{volume.path} has axes {''.join(volume.meta.axes)} and box {box}, but {measured}, whose mips must hold all its "
                f"sections; {again} {volume.path} COARSE.json"
            )
        expected = np.array([plane.start, plane.stop]) / factor
        if np.abs(np.array([box.start[1:], box.stop[1:]]) - expected).max() > 1:
            raise UserError(
                f"{volume.path} has box {box} and voxels of {_size(volume.meta.voxel_size)}, which is no mip of what was "
                f"measured: {measured}; {again} {volume.path} COARSE.json"
            )
        return Placed(volume, first, self.at(volume.meta.voxel_size), told)

    def at(self, voxel_size: Sequence[float]) -> NDArray[np.float64]:
        """The transforms of all sections, (z, 3, 3), in voxels of this size."""
        factor = np.divide(voxel_size[-2:], self.voxel_size[-2:])
        return np.stack([at_scale(m, factor) for m in self.matrices])

    def check(self, source: str) -> None:
        """Refuse a source other than that measured: its anchor must hold the same voxels at the mip of the measurement."""
        volume = open_volume(source, mip=self.mip, dataset=self.dataset)
        if fingerprint(volume, self.anchor) != self.fingerprint:
            raise UserError(
                f"section {self.anchor} of {source} at mip {self.mip} is not that of {self.source}, on which the coarse alignment was "
                f"measured; measure this source with: lamella prep coarse {source} COARSE.json"
            )


def open_placed(path: str | Path, source: str, volume: Volume) -> Placed:
    """``volume``, a mip of ``source``, with its sections where the measurement at ``path`` places them.

    Raises UserError for a measurement of another source or of other sections.
    """
    coarse = Coarse.read(path)
    placed = coarse.view(volume, str(path))
    coarse.check(source)
    return placed


def fingerprint(volume: Volume, z: int) -> str:
    """What tells a section from any other."""
    if not volume.box.start[0] <= z < volume.box.stop[0]:
        return "none"
    data = volume.read(Box((z, *volume.box.start[1:]), (z + 1, *volume.box.stop[1:])))
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()[:16]


class Placed(View):
    """A volume (z y x) whose sections are seen each through its transform, interpolated linearly; 0 where they do not reach.

    Section ``first + n`` has ``matrices[n]``, in voxels of this mip. The box holds all that the sections become. A volume of whole
    numbers that are ``labels`` (masks) gives the highest that each voxel touches.
    """

    def __init__(
        self, source: Volume, first: int, matrices: NDArray[np.float64], told: str = "", labels: bool = False
    ) -> None:
        super().__init__(source)
        self.first, self.matrices, self.told, self.labels = first, matrices, told, labels
        whole = union(hull(np.linalg.inv(m), _plane(source.box)) for m in matrices)
        self._box = Box((first, *whole.start), (first + len(matrices), *whole.stop))

    @property
    def box(self) -> Box:
        return self._box

    def masks(self, masks: Volume) -> Placed:
        """Masks on the voxels of the source, seen through the same transforms."""
        return Placed(masks, self.first, self.matrices, self.told, labels=True)

    def matrix(self, z: int) -> Matrix:
        """The transform of section ``z``."""
        found: Matrix = self.matrices[z - self.first]
        return found

    def read(self, box: Box) -> NDArray[Any]:
        check_box(self, box)
        result = np.zeros(box.shape, self.dtype)
        for n in range(box.shape[0] if box.size else 0):
            result[n] = self._section(box.start[0] + n, _plane(box))
        return result

    def _section(self, z: int, plane: Box) -> NDArray[Any]:
        matrix = self.matrix(z) @ shifted(plane.start)
        seen = hull(matrix, Box.of(plane.shape)).grow(1).intersect(_plane(self.source.box))
        if seen.is_empty:
            return np.zeros(plane.shape, self.dtype)
        data = self.source.read(Box((z, *seen.start), (z + 1, *seen.stop)))[0]
        matrix = shifted(-np.array(seen.start)) @ matrix
        if self.labels:
            return _highest(data, matrix, plane.shape)
        return _interpolated(data, matrix, plane.shape)


def _interpolated(data: NDArray[Any], matrix: Matrix, shape: tuple[int, ...]) -> NDArray[Any]:
    """The mean of the data under the interpolation, 0 where that has less than half of the weight; tissue never becomes 0."""
    present = pull((data != 0).astype(np.float64), matrix, shape)
    values = pull(data.astype(np.float64), matrix, shape) / np.maximum(present, 1e-6)
    return as_tissue(values, present >= 0.5, data.dtype)


def _highest(data: NDArray[Any], matrix: Matrix, shape: tuple[int, ...]) -> NDArray[Any]:
    result = np.zeros(shape, data.dtype)
    for value in np.unique(data[data > 0]):
        result[pull((data >= value).astype(np.float32), matrix, shape) > 1e-4] = value
    return result


def _plane(box: Box) -> Box:
    return Box(box.start[-2:], box.stop[-2:])


def _size(lengths: Any) -> str:
    return " x ".join(f"{n:g}" for n in lengths)
