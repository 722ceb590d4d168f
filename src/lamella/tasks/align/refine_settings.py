"""How fields are refined on the images themselves; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, model_validator

from lamella.core.config import Config


class RefineSettings(Config):
    """Options of ``refine``."""

    steps: int = Field(0, ge=0, description="steps by which the net's field is refined on the images themselves")
    window: float = Field(
        12.0, gt=0, description="pixels (standard deviation) over which a step is decided; narrower follows finer bends"
    )
    least: float = Field(
        0.2, ge=0, le=1, description="correlation of the aligned sections up to which a place is left as it is"
    )
    sure: float = Field(0.5, ge=0, le=1, description="correlation from which on steps are taken in full")

    @model_validator(mode="after")
    def _check(self) -> RefineSettings:
        if self.least >= self.sure:
            raise ValueError(f"least {self.least} must be below sure {self.sure}")
        return self
