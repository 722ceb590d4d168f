"""Which pair of sections to show a run at work on; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, model_validator

from lamella.core.config import Config


class InspectSettings(Config):
    """Options of ``lamella inspect``."""

    z: int | None = Field(None, description="section that is aligned to the one before it; the middle one if not given")
    bbox: str | None = Field(None, description="part to show, START:STOP for y,x in voxels of the mip")
    centre: str | None = Field(
        None, description="middle of the part to show, Y,X; the middle of the section if not given"
    )
    size: int = Field(
        512, ge=32, description="height and width of the part to show, pixels; the section's if it is smaller"
    )
    mip: int | None = Field(None, ge=0, description="mip to look at; that of the training, or the finest of SOURCE")
    dataset: str | None = Field(None, description="data set of an archive; the first if not given")
    sample: int = Field(0, ge=0, description="stack of an archive")
    maps: int = Field(5, ge=1, description="maps to show of each level's encodings, those that vary most")

    @model_validator(mode="after")
    def _check(self) -> InspectSettings:
        if self.bbox is not None and self.centre is not None:
            raise ValueError(f"bbox {self.bbox} and centre {self.centre} both say where; give one of them")
        return self
