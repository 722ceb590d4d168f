"""How images are predicted: what is written, in which form, in blocks of which size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lamella.core.config import Config

Format = Literal["png", "tif", "ome-zarr"]


class PredictSettings(Config):
    """What is written besides the instances, and how volumes are cut."""

    format: Format | None = Field(None, description="png, tif or ome-zarr; that of each image if not given")
    maps: bool = Field(False, description="write the maps too: probabilities of objects and boundaries, distances")
    plot: bool = Field(False, description="write a preview of each image with outlines, and a page that shows all")
    channels: tuple[int, ...] | None = Field(
        None, min_length=1, description="channels of the images to take, counted from 0; as in training if not given"
    )
    flat: bool = Field(
        False, description="with a 2D net: make the objects of a stack in each section by itself, not through sections"
    )
    block: int | None = Field(
        None, ge=32, description="side of a block in voxels; larger images go block by block (2048 in 2D, 128 in 3D)"
    )
    skip_bad: bool = Field(False, description="go on without images that cannot be used, and name them")

    def size(self, ndim: int) -> tuple[int, int, int]:
        """Voxels of a block, z y x."""
        side = self.block or (2048 if ndim == 2 else 128)
        return (1 if ndim == 2 else side, side, side)
