"""What ``lamella convert`` is asked for; kept apart from the copying, so that the command line loads no formats."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lamella.core.config import Config


class ConvertSettings(Config):
    """What to copy, and what the copy shall be. Boxes and chunks are in voxels of the mip that is copied."""

    mips: int = Field(1, ge=1, description="mips to write, each about half as large; 1 is the copy alone")
    mip: int = Field(0, ge=0, description="mip of the source to copy")
    bbox: str | None = Field(None, description="box to copy, z0:z1,y0:y1,x0:x1; an end left out is the volume's own")
    chunk: str | None = Field(None, description="shape of a chunk, as 64,256,256 or, for y and x alone, 512,512")
    dtype: str | None = Field(None, description="type to store, as uint8; values must fit, or be mapped with --window")
    window: str | None = Field(
        None,
        description="LOW,HIGH: map these values to the type's 0 and maximum (to 0 and 1 for floats), cut what is beyond",
    )
    dataset: str | None = Field(None, description="data set of the source, where a file has several")
    sample: int | None = Field(None, ge=0, description="sample to take from a stack archive [default: all, as axis n]")
    channel: int | None = Field(None, ge=0, description="channel to take [default: all]")
    time: int | None = Field(None, ge=0, description="time point to take [default: all]")
    labels: bool | None = Field(
        None, description="the values are labels: mips take the most frequent one, not the mean"
    )
    masks: bool = Field(False, description="the values are masks: mips take the largest one, so no defect is lost")
    ignore_zero: bool = Field(False, description="0 is missing data: mips average what is present")
    halve: Literal["auto", "yx", "zyx"] = Field(
        "auto", description="axes that each mip halves; auto leaves z until y and x are about as coarse"
    )
    voxel_size: str | None = Field(None, description="z,y,x size of a voxel, where the source does not say or is wrong")
    unit: str | None = Field(None, description="unit of the voxel size, as nm [default: the source's]")
    block_mib: float = Field(8.0, gt=0, description="MiB that a block reads; memory holds several blocks")
    kind: str | None = Field(
        None, description="format to write, where the name does not tell: precomputed, tiff-folder …"
    )
    ome_version: Literal["0.4", "0.5"] | None = Field(None, description="version of OME-Zarr to write [default: 0.5]")

    @model_validator(mode="after")
    def _one_way(self) -> ConvertSettings:
        ways = [n for n in ("labels", "masks", "ignore_zero") if getattr(self, n)]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} are different ways to make mips; choose one")
        if self.ome_version and self.kind:
            raise ValueError(f"ome_version {self.ome_version} and kind {self.kind} both name a format; give one")
        return self

    @property
    def reduce(self) -> Literal["mean", "present", "mode", "max"]:
        """How voxels become one: see ``lamella.prep.downsample``."""
        if self.labels or self.masks:
            return "mode" if self.labels else "max"
        return "present" if self.ignore_zero else "mean"
