"""How images are predicted with a head: what is written, in blocks of which size."""

from __future__ import annotations

from pydantic import Field

from lamella.core.config import Config


class PredictSettings(Config):
    """What is written besides the classes, and how volumes are cut."""

    maps: bool = Field(
        False, description="write the probability of each class too; of affinities, maps are all there is"
    )
    channels: tuple[int, ...] | None = Field(
        None, min_length=1, description="channels of the images to take, counted from 0; as in training if not given"
    )
    block: int | None = Field(None, ge=32, description="side of a block in voxels (1024 in 2D, 96 in 3D)")
    skip_bad: bool = Field(False, description="go on without images that cannot be used, and name them")

    def size(self, ndim: int) -> tuple[int, int, int]:
        """Voxels of a block, z y x."""
        side = self.block or (1024 if ndim == 2 else 96)
        return (1 if ndim == 2 else side, side, side)
