"""What ``lamella prep coarse`` is asked for; kept apart from the measuring, so that the command line loads no formats."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lamella.core.config import Config


class CoarseSettings(Config):
    """How sections are laid on each other, roughly."""

    mip: int | None = Field(
        None, ge=0, description="mip to measure at [default: the coarsest at which sections are 512 pixels long]"
    )
    dataset: str | None = Field(None, description="which data set of the source, if it holds several")
    model: Literal["shift", "rigid", "affine"] = Field(
        "affine", description="what may differ between neighbours: a shift; also a rotation; also scale and shear"
    )
    turn: float = Field(
        180.0, ge=0, le=180, description="largest rotation between neighbours that is looked for, degrees"
    )
    reach: int = Field(2, ge=1, description="earlier sections with data that each section is laid on")
    sure: float = Field(
        0.15, gt=0, le=1, description="share of blocks that must agree; below it, a section stands as its neighbour"
    )
    anchor: Literal["first", "middle"] | int = Field("first", description="section that stays where it is")
