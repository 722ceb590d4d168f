"""A trained segment run, ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.recipe.load import load_run

if TYPE_CHECKING:
    from lamella.infer import InferSettings
    from lamella.tasks.segment.predictor import Segmenter


def load_segmenter(
    run: str | Path, settings: InferSettings | None = None, *, device: str = "auto", runs: str | Path = "runs"
) -> tuple[Segmenter, dict[str, Any]]:
    """The segmenter of ``RUN`` or ``RUN:CHECKPOINT``, from the run's folder alone, and what to record of where it came from."""
    from lamella.data.labelled import LabelledData
    from lamella.infer import InferSettings
    from lamella.tasks.segment.predictor import Segmenter
    from lamella.tasks.segment.task import SegmentTask
    from lamella.train.config import TrainerConfig, accelerator

    loaded = load_run(run, runs=runs, task="segment")
    kind, devices = accelerator(TrainerConfig.load({"device": device}, "--device"))
    task, data = loaded.task, loaded.recipe.data
    assert isinstance(task, SegmentTask)
    assert isinstance(data, LabelledData)
    segmenter = Segmenter(
        net=task.net,
        method=task.config.instances.build(),
        normaliser=data.normaliser,
        slices=data.slices,
        channels=_common_channels(data),
        mirror=max(data.per_axis(data.context)),
        trim=data.trim,
        voxel_size=task.config.voxel_size,
        settings=settings or InferSettings(),
        device=f"cuda:{devices[0]}" if isinstance(devices, list) else kind,
    )
    facts = {"run": loaded.folder.name, "checkpoint": loaded.checkpoint, "recipe": loaded.recipe.to_dict()}
    return segmenter, facts


def _common_channels(data: Any) -> tuple[int, ...] | None:
    """The channels that all sources take, if they agree."""
    chosen = {source.channels for source in data.sources}
    return chosen.pop() if len(chosen) == 1 else None
