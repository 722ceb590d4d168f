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
    from lamella.data.image_source import common_channels
    from lamella.data.labelled import LabelledData
    from lamella.infer import InferSettings
    from lamella.tasks.segment.predictor import Segmenter
    from lamella.tasks.segment.task import SegmentTask
    from lamella.train.config import device_of

    loaded = load_run(run, runs=runs, task="segment")
    task, data = loaded.task, loaded.recipe.data
    assert isinstance(task, SegmentTask)
    assert isinstance(data, LabelledData)
    segmenter = Segmenter(
        net=task.net,
        method=task.config.instances.build(),
        normaliser=data.normaliser,
        slices=data.slices,
        channels=common_channels(data.sources),
        mirror=max(data.per_axis(data.context)),
        trim=data.trim,
        voxel_size=task.config.voxel_size,
        settings=settings or InferSettings(),
        device=device_of(device),
    )
    facts = {"run": loaded.folder.name, "checkpoint": loaded.checkpoint, "recipe": loaded.recipe.to_dict()}
    return segmenter, facts
