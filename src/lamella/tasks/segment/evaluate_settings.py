"""What predicted instances are compared with, and how; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from lamella.core.config import Config


class InstanceSettings(Config):
    """Options of ``lamella evaluate instances``."""

    images: str | None = Field(None, description="the pictures that were segmented, to show beside the labels")
    ignore: str = Field(
        "", description="true labels of regions that nobody could annotate and that count for nothing: 1 or 1,7"
    )
    names: str | None = Field(None, description="score these only: a text file of names, or FILE.json:KEY")
    slices: bool = Field(False, description="score every section of a stack as an image of its own")
    layout: Literal["auto", "images", "volume"] = Field(
        "auto", description="what a folder is: images of their own, or the sections of one volume"
    )
    components: bool = Field(False, description="the truth is a mask (0 outside or membrane) whose patches are objects")
    drop_border: bool = Field(False, description="leave out objects that touch the edge of the image")
    matching: Literal["hungarian", "greedy"] = Field(
        "hungarian", description="how objects are matched one to one where several candidates compete"
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="IoU at which objects.csv, sizes and pictures call an object found"
    )
    sizes: str = Field(
        "", description="areas that part the classes of size: 50,200; the truth's quartiles if not given"
    )
    baseline: str | None = Field(None, description="folder of scores of the same images, shown beside these")
    worst: int = Field(6, ge=0, description="images, or places of a large one, to show")

    @field_validator("ignore", "sizes")
    @classmethod
    def _whole_numbers(cls, value: str) -> str:
        if value and not all(part.strip().isdigit() for part in value.split(",")):
            raise ValueError("give whole numbers with commas between them, for example 1,7")
        return value

    @property
    def ignored(self) -> tuple[int, ...]:
        return _numbers(self.ignore)

    @property
    def edges(self) -> tuple[int, ...]:
        return tuple(sorted(_numbers(self.sizes)))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())
