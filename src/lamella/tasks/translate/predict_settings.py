"""How images are translated: what is written, in which form, by which statistics. Kept apart so that help imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lamella.core.config import Config

Format = Literal["frames", "frames-png", "ome-zarr", "tif", "png"]
Statistics = Literal["saved", "source", "position"]
Type = Literal["uint8", "uint16", "float32"]


class TranslateSettings(Config):
    """What is taken of the source, how it is normalised, and what is written."""

    format: Format | None = Field(
        None, description="frames, frames-png, ome-zarr, tif or png; as the source if not given"
    )
    dtype: Type | None = Field(
        None,
        description="uint8, uint16 (rounded, and cut to their range) or float32; that of the targets in training if not given",
    )
    plot: bool = Field(False, description="write a preview of each position, and a page that shows all")
    channels: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="channels to take as the inputs, by number or name; those of training if not given",
    )
    positions: tuple[str, ...] | None = Field(None, min_length=1, description="positions to take, by name; or all")
    statistics: Statistics = Field(
        "saved",
        description="how inputs are normalised: by what was measured in training, or by the intensities of the whole source, or of "
        "each position",
    )
    prep: str | None = Field(
        None,
        description="folder of 'lamella prep' of the source; its shading, size and statistics stand for those of training",
    )
    block: int | None = Field(
        None, ge=32, description="side of a block in pixels (2048 in 2D, 1024 with several slices, 128 in 3D)"
    )
    skip_bad: bool = Field(False, description="go on without positions that cannot be used, and name them")

    def size(self, ndim: int, depth: int) -> tuple[int, int, int]:
        """Voxels of a block, z y x."""
        if ndim == 3:
            return (self.block or 128,) * 3
        side = self.block or (1024 if depth > 1 else 2048)
        return (16 if depth > 1 else 1, side, side)
