"""What ``lamella render`` is asked for; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lamella.core.config import Config


class RenderSettings(Config):
    """What is shown through fields, and how voxels between places are found. Boxes are in voxels of the mip that is written."""

    mip: int = Field(
        0, ge=0, description="mip of the source that is read, and written; that of the fields or a finer one"
    )
    bbox: str | None = Field(None, description="part to write, START:STOP for z,y,x; all that was aligned if left out")
    labels: bool | None = Field(
        None, description="the values are labels: each voxel takes the nearest one, and no value is new"
    )
    masks: bool = Field(
        False, description="the values are masks, 0, 1 and 2: each voxel takes the highest that it touches"
    )
    other: bool = Field(
        False, description="the source is not what was aligned but other images on its voxels, as a second channel"
    )
    coarse: str | None = Field(
        None, description="where sections lie roughly, if they were aligned with this: the file of lamella prep coarse"
    )
    dataset: str | None = Field(None, description="which data set of the source, if it holds several")
    channel: int | None = Field(None, ge=0, description="channel to take, if the source has several")

    @model_validator(mode="after")
    def _one_kind(self) -> RenderSettings:
        kinds = [name for name in ("labels", "masks", "other") if getattr(self, name)]
        if len(kinds) > 1:
            raise ValueError(f"{' and '.join(kinds)} are different kinds of volumes; choose one")
        return self

    @property
    def kind(self) -> Literal["images", "labels", "masks"]:
        """What the values are."""
        if self.masks:
            return "masks"
        return "labels" if self.labels else "images"
