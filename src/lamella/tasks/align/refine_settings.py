"""How fields are refined on the images themselves; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, model_validator

from lamella.core.config import Config


class RefineSettings(Config):
    """Options of ``refine``."""

    steps: int = Field(
        3,
        ge=0,
        description="steps by which the net's field is refined on the images themselves; methods vote and joint take none "
        "unless told",
    )
    broad: int = Field(
        4,
        ge=0,
        description="steps before these on images of a quarter of the size, where more than a pixel can be found",
    )
    broad_window: float = Field(30.0, gt=0, description="pixels (standard deviation) over which such a step is decided")
    window: float = Field(
        10.0, gt=0, description="pixels (standard deviation) over which a step is decided; narrower follows finer bends"
    )
    evidence: float = Field(
        40.0, gt=0, description="pixels (standard deviation) over which the aligned sections are correlated"
    )
    least: float = Field(0.05, ge=0, le=1, description="such a correlation up to which a place is not trusted at all")
    sure: float = Field(0.2, ge=0, le=1, description="such a correlation from which on a place is trusted in full")
    calm: float = Field(
        40.0,
        ge=0,
        description="pixels (standard deviation) over which what is not trusted is replaced by what is; 0: it stays",
    )
    leaps: int = Field(
        0,
        ge=0,
        description="rounds in which places take over vectors from the other side of damage that no masks tell of",
    )

    @model_validator(mode="after")
    def _check(self) -> RefineSettings:
        if self.least >= self.sure:
            raise ValueError(f"least {self.least} must be below sure {self.sure}")
        if self.leaps and not self.steps:
            raise ValueError(f"leaps {self.leaps} happen between steps; give steps too, or leave leaps out")
        return self
