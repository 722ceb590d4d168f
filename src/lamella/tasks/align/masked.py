"""Sections whose damage is known: what of them is tissue, and how their masks travel with them.

Masks are volumes on the voxels of the source, 0 normal, 1 near a defect, 2 inside one. What is inside is shown to the net as missing,
so holes of a target are filled from the sections before it. Masks are carried through the same fields as the sections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamella.blockwise import Block
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.views import View
from lamella.ops.masks import warp_mask
from lamella.tasks.align.estimate import INSIDE
from lamella.tasks.align.resample import MARGIN, interpolate, read_plane, seen_from, through
from lamella.tasks.align.stages import Chain, Field, Plane, Stored, write_image


class Masked(View):
    """A volume of sections, read as it is, with the ``masks`` of its voxels."""

    def __init__(self, source: Volume, masks: Volume) -> None:
        super().__init__(source)
        self.masks = masks

    def read(self, box: Box) -> NDArray[Any]:
        return self.source.read(box)


class Blanked(Masked):
    """The same with 0, missing, where the masks are 2."""

    def read(self, box: Box) -> NDArray[Any]:
        data = self.source.read(box)
        return np.where(self.masks.read(box) == INSIDE, 0, data).astype(data.dtype)


def open_masks(path: str, source: Volume, mip: int) -> Volume:
    """The masks at ``path`` on the voxels of ``source``, which is of ``mip``: stored as they are, or at that mip.

    Raises UserError for masks of other voxels or of another type.
    """
    masks = open_volume(path)
    if masks.box != source.box and mip:
        masks = open_volume(path, mip=mip)
    if masks.box != source.box or masks.meta.axes != source.meta.axes:
        raise UserError(
            f"masks {path} have axes {''.join(masks.meta.axes)} and box {masks.box}, {source.path} {''.join(source.meta.axes)} and "
            f"{source.box}; make them of the same voxels with: lamella defects RUN {source.path} MASKS"
        )
    if masks.dtype.kind not in "ui":
        raise UserError(f"masks {path} hold {masks.dtype}; they must be whole numbers 0, 1 and 2")
    return masks


@dataclass(frozen=True)
class CarryMasks:
    """Writes one block of a section's mask as its field moves it."""

    masks: Volume
    out: Volume
    fields: Stored
    plane: Plane
    items: tuple[tuple[Chain, int], ...]

    def identity(self) -> Mapping[str, Any]:
        return {"items": [[c.start, z] for c, z in self.items], "masks": self.masks.path}

    def read(self, block: Block) -> tuple[Box, Field]:
        grown = self._coarse(block).grow(MARGIN).intersect(Box.of(self.plane.tiling.shape))
        return grown, self.fields.read(self._section(block), grown)

    def compute(self, block: Block, data: tuple[Box, Field]) -> NDArray[Any]:
        grown, coarse = data
        fine = self.plane.fine(self._coarse(block))
        field = interpolate(coarse, grown, fine, (self.plane.step, self.plane.step), torn=True)
        return carried(self.masks, self._section(block), fine.shift(self.plane.box.start), field)

    def write(self, block: Block, result: NDArray[Any]) -> None:
        write_image(self.plane, self.out, self._section(block), self._coarse(block), result)

    def _section(self, block: Block) -> int:
        return self.items[block.write.start[0]][1]

    def _coarse(self, block: Block) -> Box:
        return Box(block.write.start[1:], block.write.stop[1:])


def carried(masks: Volume, z: int, plane: Box, field: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The mask of section ``z`` seen through ``field`` (2, y, x) on the grid of ``plane``: the highest value that a pixel touches."""
    masks, field = through(masks, z, plane, field)
    seen, where = seen_from(plane, field)
    data = torch.from_numpy(read_plane(masks, z, seen).astype(np.float64))[None, None]
    return warp_mask(data, where)[0, 0].numpy().astype(np.uint8)
