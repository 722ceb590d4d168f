"""The frame in which sections are aligned, where they were first laid roughly on each other, and that of the raw source.

Fields are estimated, blended and stitched between sections as the coarse alignment places them; fields that are kept lead on to the raw
source. A coarse transform moves each pixel by itself, so the two are turned into each other without loss:

    kept(p) = M(p + field(p)) - p          field(p) = M⁻¹(p + kept(p)) - p
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.io.coarse import Placed
from lamella.ops.affine import Matrix, at_scale, moved, shifted

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """The coarse transforms of ``placed`` for fields that are ``step`` (y, x) times coarser and counted from ``corner`` (y, x)."""

    placed: Placed
    corner: tuple[int, int]
    step: tuple[int, int]

    def to_source(self, z: int, box: Box, field: Field) -> Field:
        """The field (2, y, x) of ``box`` (coarse pixels), which leads through the placed section, on to the raw one."""
        places = _places(box)
        led = moved(self._matrix(z), places + field.transpose(1, 2, 0)) - places
        return led.transpose(2, 0, 1).astype(np.float32)

    def from_source(self, z: int, box: Box, field: Field) -> Field:
        """What ``to_source`` made, as it was."""
        places = _places(box)
        led = moved(np.linalg.inv(self._matrix(z)), places + field.transpose(1, 2, 0)) - places
        return led.transpose(2, 0, 1).astype(np.float32)

    def _matrix(self, z: int) -> Matrix:
        corner = np.array(self.corner)
        fine = shifted(-corner) @ self.placed.matrix(z) @ shifted(corner)
        return at_scale(fine, self.step)


def frame_of(source: Volume, corner: tuple[int, ...], step: int) -> Frame | None:
    """The frame of sections that are read as a coarse alignment places them; None for sections as they are."""
    return Frame(source, (corner[0], corner[1]), (step, step)) if isinstance(source, Placed) else None


def coarse_facts(source: Volume) -> Mapping[str, Any]:
    """What outputs and plans keep of a coarse alignment: where it was read, and a fingerprint of its transforms."""
    if not isinstance(source, Placed):
        return {}
    return {"coarse": {"path": source.told, "transforms": digest_of(source.matrices)}}


def digest_of(matrices: NDArray[np.float64]) -> str:
    """A fingerprint of transforms."""
    return hashlib.sha256(np.ascontiguousarray(matrices).tobytes()).hexdigest()[:16]


def without_tilt(field: Field) -> tuple[Field, Matrix]:
    """A field (2, y, x) less the affine one nearest to it, and that, (2, 3) on (y, x, 1)."""
    places = _places(Box.of(field.shape[1:])).reshape(-1, 2)
    table = np.column_stack([places, np.ones(len(places))])
    tilt = np.linalg.lstsq(table, field.reshape(2, -1).T.astype(np.float64), rcond=None)[0].T
    return (field - (tilt @ table.T).reshape(field.shape)).astype(np.float32), tilt


def _places(box: Box) -> NDArray[np.floating[Any]]:
    """(y, x, 2)"""
    return np.indices(box.shape, np.float64).transpose(1, 2, 0) + np.array(box.start)
