"""What validation is asked for; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from lamella.core.config import Config

METHODS = {"affinities": ("agglomeration", "mutex"), "classes": ("components", "watershed", "membranes")}
"""The methods that make objects of each kind of map; the first is taken if none is named."""

Figure = Literal["voi_sum", "adapted_rand", "AP50"]


class ValidateSettings(Config):
    """Options of ``lamella evaluate heads`` and ``lamella evaluate affinities``."""

    thresholds: str = Field(
        "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9",
        description="thresholds in (0, 1) to make objects at; affinities: of merging, classes: of the foreground",
    )
    kind: str | None = Field(
        None,
        description="how objects are made: agglomeration or mutex of affinities; components, watershed or membranes of classes; "
        "the first of these if not given",
    )
    best: Figure = Field("voi_sum", description="what the best threshold and checkpoint are best in")
    background: Literal["segment", "ignored"] = Field(
        "segment",
        description="VOI and Rand count true background as a segment like others, or leave it out, as is usual of membranes",
    )
    foreground: str | None = Field(
        None, description="classes that are objects, by name with commas between them; those of objects if not given"
    )
    labels: str | None = Field(None, description="folder, file or name of the labels, where SOURCE leaves a choice")
    names: str | None = Field(None, description="only these images: a text file of names, or FILE.json:KEY")
    z: str | None = Field(None, description="sections to take, START:STOP")
    bbox: str | None = Field(None, description="part to take: START:STOP for y,x or z,y,x")
    ignore: str = Field("", description="labels of regions that nobody could annotate: 1 or 1,7")
    components: bool = Field(False, description="the labels are masks, whose connected patches are objects")
    samples: int | None = Field(
        None, ge=0, description="samples whose volumes are kept (maps, fragments, objects, truth); all if not given"
    )
    pictures: int = Field(3, ge=0, description="samples to show in the report")

    @field_validator("thresholds")
    @classmethod
    def _inside(cls, value: str) -> str:
        try:
            found = [float(part) for part in value.split(",")]
        except ValueError:
            raise ValueError("give numbers with commas between them, for example 0.25,0.5,0.75") from None
        if wrong := [t for t in found if not 0 < t < 1]:
            raise ValueError(f"threshold {wrong[0]:g} is outside (0, 1); give for example 0.25,0.5,0.75")
        if len(set(found)) < len(found):
            raise ValueError("a threshold is given twice; leave one out")
        return value

    @field_validator("ignore")
    @classmethod
    def _whole_numbers(cls, value: str) -> str:
        if value and not all(part.strip().isdigit() for part in value.split(",")):
            raise ValueError("give whole numbers with commas between them, for example 1,7")
        return value

    @property
    def levels(self) -> tuple[float, ...]:
        """The thresholds, rising."""
        return tuple(sorted(float(part) for part in self.thresholds.split(",")))

    @property
    def source(self) -> dict[str, Any]:
        """What is said of the images and labels, by the names of a recipe's sources."""
        chosen = {name: getattr(self, name) for name in ("labels", "names", "z", "bbox", "components")}
        return {**chosen, "ignore": self.ignored}

    @property
    def ignored(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.ignore.split(",") if part.strip())
