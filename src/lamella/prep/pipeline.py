"""All of the preprocessing from one config: stages in their order, each gone on with or passed over if it was done before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lamella.blockwise import Executor
from lamella.core.config import Config, read_yaml
from lamella.core.errors import UserError
from lamella.io.preprocessing import STAGES, Resize
from lamella.prep.experiment import Experiment
from lamella.prep.foreground import make_masks
from lamella.prep.frame_settings import PrepConfig, ResizeSettings, Selection
from lamella.prep.shading import measure_shading
from lamella.prep.stage import begin
from lamella.prep.statistics import measure_statistics
from lamella.prep.tiles import make_tiles


def set_resize(
    source: str,
    out: str | Path,
    settings: ResizeSettings | None = None,
    select: Selection | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Resize | None:
    """Keep the factors by which views are resized, after a look at whether they can be; None if that was done before."""
    settings = settings or ResizeSettings()
    with begin("resize", source, out, settings, select or Selection(), overwrite=overwrite) as begun:
        if begun is None:
            return None
        resize = Resize(yx=settings.yx, z=settings.z)
        Experiment.open(source, select or Selection(), begun.before.model_copy(update={"resize": resize}))
        begun.finish(resize.to_dict())
        return resize


_MEASURES: dict[str, Callable[..., Any]] = {
    "shading": measure_shading,
    "resize": set_resize,
    "masks": make_masks,
    "statistics": measure_statistics,
    "tiles": make_tiles,
}


def read_config(path: str | Path) -> PrepConfig:
    """The config in a YAML file; unknown keys are refused with the nearest that exists."""
    return PrepConfig.load(read_yaml(path), str(path))


def run_prep(
    config: PrepConfig, *, overwrite: bool = False, executor: Executor | None = None
) -> Iterator[tuple[str, bool]]:
    """Do the stages of ``config`` one after another; gives the name of each that is done, and whether it was done now.

    A run that was killed goes on when it is repeated, and ends with the same bytes.
    """
    asked: dict[str, Config | None] = {s: getattr(config, s) for s in STAGES}
    if not any(asked.values()):
        raise UserError(f"the config names no stage; give at least one of {', '.join(STAGES)}")
    Experiment.open(config.source, config.select).channels(config.channels)
    for stage, settings in asked.items():
        if settings is None:
            continue
        if config.channels is not None and getattr(settings, "channels", config.channels) is None:
            settings = settings.model_copy(update={"channels": config.channels})
        done = _MEASURES[stage](
            config.source, config.out, settings, config.select, overwrite=overwrite, executor=executor
        )
        yield stage, done is not None
