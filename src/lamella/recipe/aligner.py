"""A trained align run as an estimator of fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.volume import Volume
from lamella.recipe.load import load_run
from lamella.tasks.align.settings import AlignSettings

if TYPE_CHECKING:
    from lamella.tasks.align.estimate import Estimator
    from lamella.tasks.align.inspect_settings import InspectSettings


def load_estimator(
    run: str | Path, settings: AlignSettings, *, mip: int = 0, device: str = "auto", runs: str | Path = "runs"
) -> tuple[Estimator, dict[str, Any]]:
    """The estimator of ``RUN`` or ``RUN:CHECKPOINT`` for sections of ``mip``, and what to record of where it came from."""
    from lamella.data.stacks import StacksData
    from lamella.tasks.align.estimate import Estimator
    from lamella.tasks.align.task import AlignTask
    from lamella.train.config import device_of

    loaded = load_run(run, runs=runs, task="align")
    where = device_of(device)
    data = loaded.recipe.data
    assert isinstance(loaded.task, AlignTask)
    assert isinstance(data, StacksData)
    normalise = data.normaliser.build(mip)
    estimator = Estimator(
        loaded.task.net,
        normalise,
        settings.flip,
        settings.symmetric,
        settings.passes,
        where,
        settings.halvings,
        settings.torn,
        settings.refine,
    )
    facts = {
        "run": str(loaded.folder.path),
        "checkpoint": loaded.checkpoint,
        "recipe": loaded.recipe.to_dict(),
    }
    return estimator, facts


def settings_of(volume: Volume) -> AlignSettings:
    """The settings that ``volume`` was aligned with, as it tells itself; the defaults for one that was not aligned by lamella."""
    told = volume.meta.provenance
    if "config" not in told or "checkpoint" not in told:
        return AlignSettings()
    known = {key: value for key, value in told["config"].items() if key in AlignSettings.model_fields}
    return AlignSettings.load(known, source=f"settings of {volume.path}")


def inspect_run(
    run: str | Path,
    source: str | None,
    out: Path,
    settings: InspectSettings,
    *,
    runs: str | Path = "runs",
    overwrite: bool = False,
) -> tuple[Path, list[str]]:
    """Show the net of ``RUN`` or ``RUN:CHECKPOINT`` at work on a pair of sections of ``source``, or of what it was trained on.

    Returns the page and its main figures, one a line.
    """
    from lamella.data.source import SourceConfig
    from lamella.data.stacks import StacksData
    from lamella.tasks.align.inspect import find_pair, inspect_pair
    from lamella.tasks.align.inspection_report import headlines, remark, write_inspection
    from lamella.tasks.align.task import AlignTask

    loaded = load_run(run, runs=runs, task="align")
    data = loaded.recipe.data
    assert isinstance(loaded.task, AlignTask)
    assert isinstance(data, StacksData)
    own = data.sources[0] if source is None else SourceConfig(path=source)
    pair = find_pair(own, settings, data.normaliser)
    found = inspect_pair(loaded.task.net, pair)
    facts = {
        "run": str(loaded.folder.path),
        "checkpoint": loaded.checkpoint,
        "source": pair.path,
        "settings": settings.to_dict(),
    }
    report = write_inspection(found, out, settings.maps, facts, overwrite)
    lines = [
        f"{figure.name}: {figure.value}" + (f"  ({figure.note})" if figure.note else "") for figure in headlines(found)
    ]
    return report, [*lines, *([wrong] if (wrong := remark(found)) else [])]
