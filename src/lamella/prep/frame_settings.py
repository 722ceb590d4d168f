"""What the verbs that measure frames are asked for; kept apart from the work, so that the command line loads no formats."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lamella.core.config import Config

Channel = int | str


class Selection(Config):
    """Which frames of an experiment to take; what is not given is all."""

    positions: tuple[str, ...] | None = Field(None, description="positions by name, as p003 [default: all]")
    times: tuple[int, ...] | None = Field(None, description="time points [default: all]")
    slices: tuple[int, ...] | None = Field(None, description="slices [default: all]")


class ShadingSettings(Config):
    """How the shading of each channel is estimated; see ``lamella.ops.shading``."""

    method: Literal["low-rank", "polynomial"] = Field(
        "low-rank", description="low-rank: robust to bright objects; polynomial: of the mean image"
    )
    channels: tuple[Channel, ...] | None = Field(None, description="channels to measure [default: all]")
    block: int | None = Field(None, ge=1, description="side of a block in px [default: low-rank 16, polynomial 32]")
    order: int | None = Field(
        None, ge=0, le=8, description="order of the polynomial [default: low-rank 4, polynomial 2]"
    )
    offset: float = Field(0.0, description="camera's reading without light")
    frames: Literal["first", "all"] = Field(
        "first", description="first: one frame of each position, the first that there is; all: every frame"
    )
    most: int = Field(500, ge=3, description="frames to use at most, spread evenly over those there are")


class MaskSettings(Config):
    """How the foreground is found."""

    channels: tuple[Channel, ...] | None = Field(None, description="channels to make masks of [default: all]")
    method: Literal["otsu", "unimodal"] = Field(
        "otsu", description="otsu: two populations; unimodal: one large peak of background with a tail (Rosin)"
    )
    scope: Literal["frame", "stack", "dataset"] = Field(
        "frame", description="what a threshold is measured on: each frame, a position at a time, or all frames"
    )
    radius: int = Field(5, ge=0, description="radius in px of the disk by which masks are opened; 0: not at all")
    combine: Literal["any", "all"] = Field(
        "any", description="foreground of several channels: in any, or in all of them"
    )
    masks: str | None = Field(
        None, description="masks of one's own: an experiment with the same positions, 0 background"
    )
    weights: bool = Field(False, description="also write border weight maps (U-Net paper)")
    w0: float = Field(10.0, ge=0, description="weight added between touching objects")
    sigma: float = Field(5.0, gt=0, description="width of the gap that is weighted, in px")


class StatisticsSettings(Config):
    """How intensities are measured for normalisation."""

    level: Literal["dataset", "volume", "stack", "slice"] = Field(
        "dataset", description="what shares a centre and spread: all, a position, a position at a time, a slice of that"
    )
    centre: Literal["median", "mean"] = Field(
        "median", description="median and interquartile range, or mean and standard deviation"
    )
    channels: tuple[Channel, ...] | None = Field(None, description="channels to measure [default: all]")
    spacing: int = Field(16, ge=1, description="px between the pixels that are sampled, along y and x")
    foreground: bool = Field(False, description="sample within the masks only")
    min_fraction: float = Field(0.0, ge=0, le=1, description="frames with less foreground than this share are left out")
    clip: tuple[float, float] | None = Field(None, description="percentiles to clip intensities to, as 2 98")

    @model_validator(mode="after")
    def _ordered(self) -> StatisticsSettings:
        if self.clip is not None and not 0 <= self.clip[0] < self.clip[1] <= 100:
            raise ValueError(f"clip {list(self.clip)} must be two percentiles, the lower first, as [2, 98]")
        if self.min_fraction > 0 and not self.foreground:
            raise ValueError("min_fraction asks for foreground; set foreground too")
        return self


class TileSettings(Config):
    """Where tiles lie, which are kept, and what is written. Depths are odd where a tile stands for its middle slice."""

    size: tuple[int, int] = Field((256, 256), description="height and width in px")
    step: tuple[int, int] | None = Field(None, description="px from one tile to the next, y and x [default: the size]")
    depth: int = Field(1, ge=1, description="slices of a tile")
    depths: dict[str, int] = Field(default_factory=dict, description="slices of single channels, by name or number")
    step_z: int = Field(1, ge=1, description="slices from one tile to the next")
    centred: bool = Field(True, description="tiles stand for their middle slice; false: they are volumes (3D)")
    min_fraction: float = Field(0.0, ge=0, le=1, description="share of a tile that must be foreground")
    channels: tuple[Channel, ...] | None = Field(None, description="channels to cut [default: all]")
    write: bool = Field(True, description="write the tiles; false: keep the rule, tiles are cut while training")


class ResizeSettings(Config):
    """Size of the result relative to the image; see ``lamella.io.preprocessing.Resize``."""

    yx: float = Field(1.0, gt=0, description="factor along y and x")
    z: float = Field(1.0, gt=0, description="factor along z")


class PrepConfig(Config):
    """One file for all of it: what is left out is not done. Stages run in the order in which they stand here."""

    source: str
    """Folder of frames, plate or volume."""
    out: str
    """Folder for what is measured."""
    select: Selection = Selection()
    channels: tuple[Channel, ...] | None = None
    """Channels of every stage that does not name its own; all by default."""
    shading: ShadingSettings | None = None
    resize: ResizeSettings | None = None
    masks: MaskSettings | None = None
    statistics: StatisticsSettings | None = None
    tiles: TileSettings | None = None
