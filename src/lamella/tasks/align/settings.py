"""How a volume is aligned with a trained net; what the net is belongs to the run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from lamella.core.config import Config
from lamella.tasks.align.joint_settings import JointSettings
from lamella.tasks.align.refine_settings import RefineSettings


class AlignSettings(Config):
    """Tiles, targets and chains (see ``volume``)."""

    method: Literal["sequence", "vote", "joint"] = Field(
        "sequence",
        description="each section to its aligned neighbour; to what several neighbours vote for; or all sections at once",
    )
    joint: JointSettings = Field(JointSettings(), description="neighbours and how they are joined, for vote and joint")
    tile: int = Field(
        1024, ge=64, description="side of the tiles on which fields are estimated, pixels; memory follows it"
    )
    overlap: int = Field(
        128, ge=0, description="pixels that tiles reach into each other, where their fields are blended"
    )
    flip: bool = Field(True, description="average with the field of the pair turned by 180 degrees, against drift")
    symmetric: bool = Field(
        True, description="also align the neighbour to the section, and take what both ways agree on"
    )
    passes: int = Field(
        3, ge=1, description="times the net looks at a tile, each time from the smoothed field of the last"
    )
    halvings: int = Field(
        0, ge=0, description="halvings of a tile for a first look, which finds displacements that are that much larger"
    )
    fill: int = Field(3, ge=1, description="earlier sections that stand in where the neighbour has no data")
    memory: int = Field(3, ge=0, description="earlier sections whose mean shift a section is expected to continue")
    torn: int = Field(
        48,
        ge=0,
        description="width in pixels up to which damage that masks tell of has torn tissue, so that fields jump there",
    )
    refine: RefineSettings = Field(RefineSettings(), description="refinement of the net's fields on the images")
    """Without ``steps``, methods vote and joint have none."""
    chain: int | None = Field(
        None, ge=1, description="sections in a row before a new chain begins; chains run side by side; all if not given"
    )
    decay: int | None = Field(None, ge=1, description="sections over which the field of a chain's first section fades")

    @model_validator(mode="before")
    @classmethod
    def _leave_matches(cls, values: Any) -> Any:
        """Votes and joint fields come out worse from refined matches, so that these are refined only if asked for."""
        if not isinstance(values, dict) or values.get("method", "sequence") == "sequence":
            return values
        refine = values.get("refine", {})
        return {**values, "refine": {"steps": 0, **refine}} if isinstance(refine, dict) else values

    @model_validator(mode="after")
    def _check(self) -> AlignSettings:
        if self.decay is not None and self.chain is None:
            raise ValueError(
                f"decay {self.decay} is for chains that are stitched together; give chain too, or leave it out"
            )
        if self.method == "sequence" and self.joint != JointSettings():
            raise ValueError("joint settings are for method vote or joint; give one of these, or leave them out")
        if self.method != "sequence" and self.refine.leaps:
            raise ValueError(
                f"refine.leaps is for method sequence; method {self.method} renders no jumps of its matches"
            )
        if self.method != "sequence":
            for name in ("fill", "memory"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name} is for method sequence; method {self.method} links sections by joint.neighbours"
                    )
        return self
