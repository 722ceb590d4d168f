"""What ``lamella predict`` can be asked for, whatever the run's task; kept apart so that ``--help`` imports nothing heavy.

Each task has settings of its own (``tasks/*/predict_settings.py``) with some of these options. One that a task does not have is
refused by :func:`settings_for`, so that nothing is asked for in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from lamella.blockwise import Executor
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.infer.settings import InferSettings

S = TypeVar("S", bound=Config)


@dataclass(frozen=True)
class Place:
    """What of the images is taken, and on which hardware."""

    mip: int = 0
    "Mip of volumes that have several."
    dataset: str | None = None
    "Which data set of a file that holds several."
    device: str = "auto"
    "auto (a GPU if there is one), cpu, cuda or cuda:1."
    runs: Path = Path("runs")
    "Folder that holds the runs."


class PredictOptions(Config):
    """Options of all tasks. None: not asked for, the task's own default."""

    format: Literal["png", "tif", "ome-zarr", "frames", "frames-png"] | None = Field(
        None, description="png, tif or ome-zarr; translate: also frames and frames-png; as the images if not given"
    )
    plot: bool | None = Field(None, description="write a preview of each image, and a page that shows all")
    channels: tuple[str, ...] | None = Field(
        None, min_length=1, description="channels of the images to take, by number from 0; translate: or by name"
    )
    block: int | None = Field(
        None, ge=32, description="side of a block in voxels; larger images go block by block (2048 in 2D, 128 in 3D)"
    )
    skip_bad: bool | None = Field(None, description="go on without images that cannot be used, and name them")
    maps: bool | None = Field(None, description="segment and head: write the maps too: probabilities, distances")
    flat: bool | None = Field(
        None,
        description="segment, with a 2D net: make the objects of a stack in each section by itself, not through sections",
    )
    dtype: Literal["uint8", "uint16", "float32"] | None = Field(
        None,
        description="translate: type to write, integers rounded and cut to their range; that of the targets if not given",
    )
    positions: tuple[str, ...] | None = Field(
        None, min_length=1, description="translate: positions of an experiment to take, by name; or all"
    )
    statistics: Literal["saved", "source", "position"] | None = Field(
        None,
        description="translate: how inputs are normalised: as measured in training (saved), or by the intensities of the whole source "
        "or of each position",
    )
    prep: str | None = Field(
        None,
        description="translate: folder of 'lamella prep' of the source, whose shading, size and statistics stand for those of training",
    )


@dataclass(frozen=True)
class Request:
    """One call of ``lamella predict``."""

    run: str
    images: tuple[str, ...]
    output: str
    place: Place = Place()
    options: PredictOptions = field(default_factory=PredictOptions)
    net: InferSettings = field(default_factory=InferSettings)
    executor: Executor = field(default_factory=Executor)
    overwrite: bool = False


def settings_for(
    options: PredictOptions, settings: type[S], task: str, others: Mapping[str, Iterable[str]] | None = None
) -> S:
    """The ``settings`` of a task, with the options that were given.

    ``others`` are the options of each task, to say whose an option is. Raises UserError for one that this task does not have, and
    for a value that it cannot use.
    """
    given: dict[str, Any] = {k: v for k, v in options.model_dump().items() if v is not None}
    for name in given:
        if name not in settings.model_fields:
            owners = [t for t, names in (others or {}).items() if name in names]
            whose = f"; it is for runs of the task {' or '.join(owners)}" if owners else ""
            raise UserError(
                f"--{name.replace('_', '-')} means nothing to a run of the task {task}{whose}: leave it out"
            )
    return settings.load(given, f"lamella predict with a run of the task {task}")
