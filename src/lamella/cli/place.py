"""Flags that several verbs have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hardware:
    """Where runs lie, and on what they are done."""

    device: str = "auto"
    "auto (a GPU if there is one), cpu, cuda or cuda:1."
    runs: Path = Path("runs")
    "Folder that holds the runs."


@dataclass(frozen=True)
class Place(Hardware):
    """What of a volume of sections is taken, and on which hardware."""

    bbox: str | None = None
    "Part to take, START:STOP for z,y,x in voxels of the mip; all of it if left out."
    mip: int = 0
    "Mip of the source that is read, and written; that of the training."
    dataset: str | None = None
    "Which data set of the source, if it holds several."
