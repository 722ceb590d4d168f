"""What ``lamella demo`` is asked for; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field

from lamella.core.config import Config


class DemoSettings(Config):
    """Size of the demonstration. Left alone, it takes less than six minutes on two cores."""

    data: str | None = Field(None, description="real sections to use instead of synthetic ones: a folder or any volume")
    sections: int | None = Field(None, ge=2, description="sections [default: 16, of real ones at most 20]")
    size: int | None = Field(
        None, ge=128, description="side of a section in px [default: 512, of real ones at most 1024]"
    )
    steps: int | None = Field(None, ge=1, description="steps of training [default: those of the recipe 'demo']")
    seed: int = Field(0, ge=0, description="seed of specimen and training")
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, cuda or cuda:1")
