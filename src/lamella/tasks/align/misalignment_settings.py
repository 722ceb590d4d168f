"""How an aligned volume is searched for places that do not fit; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field

from lamella.core.config import Config


class MisalignmentSettings(Config):
    """Options of ``lamella evaluate misalignment``."""

    mip: int = Field(0, ge=0, description="mip of the aligned volume to look at; a coarser one finds larger errors")
    reach: int = Field(12, ge=2, description="how far off a place may be and still be found, pixels along y and x")
    window: int = Field(
        64, ge=16, description="pixels of a place that are correlated; a larger one is surer and blunter"
    )
    worst: int = Field(50, ge=1, description="places to list")
    tile: int = Field(2048, ge=64, description="pixels on a side that are looked at at once; memory follows it")
