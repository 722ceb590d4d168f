"""What to compare an aligned volume with, and how; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, field_validator

from lamella.core.config import Config


class EvaluateSettings(Config):
    """Options of ``lamella evaluate alignment``."""

    source: str | None = Field(
        None, description="the volume before alignment, to compare with, at the mip that was aligned"
    )
    coarse: str | None = Field(
        None, description="read the source as lamella prep coarse measured it; before is then after the coarse stage"
    )
    fields: str | None = Field(None, description="the fields that aligned it (c z y x), to count folds and for --truth")
    truth: str | None = Field(None, description="true fields (c z y x), NaN where a place has no counterpart")
    run: str | None = Field(
        None, description="run to try again on neighbours and unrelated sections, for the method's null"
    )
    runs: str = Field("runs", description="folder that holds the runs")
    chunk: str = Field("12,32,64", description="sides in px of the chunks that are correlated")
    border: int = Field(0, ge=0, description="pixels at the edge of every section to leave out")
    mip: int = Field(0, ge=0, description="mip of the aligned volume, fields and truth to read")
    device: str = Field("auto", description="device for the run: auto (a GPU if there is one), cpu, cuda or cuda:1")
    samples: int = Field(6, ge=1, description="pairs of sections to try the run on")

    @field_validator("chunk")
    @classmethod
    def _whole_numbers(cls, value: str) -> str:
        if not all(part.strip().isdigit() for part in value.split(",")):
            raise ValueError("give whole numbers with commas between them, for example 12,32,64")
        return value

    @property
    def chunks(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.chunk.split(","))
