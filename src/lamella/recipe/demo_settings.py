"""What ``lamella demo`` is asked for; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field

from lamella.core.config import Config


class DemoSettings(Config):
    """Size of the demonstration. Left alone, it takes less than six minutes on two cores, four for all tasks but align."""

    data: str | None = Field(
        None,
        description="real data to use instead of synthetic ones: sections (a folder or any volume), for segment and contrast a "
        "folder of images with labels, for translate a folder of frames or a plate",
    )
    sections: int | None = Field(None, ge=2, description="sections to align [default: 16, of real ones at most 20]")
    images: int | None = Field(
        None, ge=6, description="images to segment, or positions to translate [default: 40, or 14; all of real ones]"
    )
    size: int | None = Field(
        None,
        ge=128,
        description="side in px [default: 512, of real sections at most 1024; 256 for images and positions]",
    )
    steps: int | None = Field(None, ge=1, description="steps of training [default: those of the recipe]")
    seed: int = Field(0, ge=0, description="seed of specimen and training")
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, cuda or cuda:1")
