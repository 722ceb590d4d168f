"""What ``lamella prep stacks`` is asked for; kept apart from the drawing, so that the command line loads no formats."""

from __future__ import annotations

from pydantic import Field

from lamella.core.config import Config

DEPTH, SIZE, MIP = 10, 512, 0  # where neither the user nor a list of places says otherwise


class StackSettings(Config):
    """What to draw. Boxes and ranges are in voxels of the mip that is drawn from."""

    count: int | None = Field(None, ge=1, description="number of stacks to draw")
    depth: int | None = Field(None, ge=1, description="consecutive sections in a stack [default: 10]")
    size: int | None = Field(None, ge=1, description="height and width of a stack in pixels [default: 512]")
    mip: int | None = Field(None, ge=0, description="mip to draw from [default: 0]")
    bbox: str | None = Field(None, description="box to draw from, z0:z1,y0:y1,x0:x1 in pixels of that mip")
    z_train: str | None = Field(None, description="sections for training, START:STOP [default: the first 80 %]")
    z_test: str | None = Field(None, description="sections for testing, START:STOP [default: the last 20 %]")
    test: bool = Field(False, description="draw from the sections for testing")
    seed: int = Field(0, ge=0, description="the same seed draws the same stacks")
    coords: str | None = Field(None, description="draw the places listed in this file (JSON or CSV) instead")
    max_missing: float = Field(
        0.5, ge=0, le=1, description="share of a stack that may be missing (0) before it is redrawn"
    )
    max_draws: int = Field(100, ge=1, description="draws for one stack before giving up")
    key: str = Field("main", min_length=1, description="name of the data set in an HDF5 archive")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one stack, (z, y, x)."""
        return self.depth or DEPTH, self.size or SIZE, self.size or SIZE
