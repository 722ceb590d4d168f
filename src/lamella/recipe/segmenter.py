"""A trained segment run, ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.recipe.load import load_members

if TYPE_CHECKING:
    from lamella.infer import InferSettings
    from lamella.tasks.segment.predictor import Segmenter


_SAME = (  # what runs must have in common for their outputs to be averaged
    *("task.net.kind", "task.net.ndim", "task.net.padding", "task.heads", "task.channels"),
    *("data.normaliser", "data.slices", "data.trim"),
)


def load_segmenter(
    run: str | Path, settings: InferSettings | None = None, *, device: str = "auto", runs: str | Path = "runs"
) -> tuple[Segmenter, dict[str, Any]]:
    """The segmenter of ``RUN`` or ``RUN:CHECKPOINT``, from the run's folder alone, and what to record of where it came from.

    Several runs with commas between are averaged, if they were trained alike but for their seed, length and images; objects are made as the
    first one says.
    """
    from lamella.data.image_source import common_channels
    from lamella.data.labelled import LabelledData
    from lamella.infer import InferSettings
    from lamella.nets.ensemble import Ensemble
    from lamella.tasks.segment.net import SegmentNet
    from lamella.tasks.segment.predictor import Segmenter
    from lamella.tasks.segment.task import SegmentTask
    from lamella.train.config import device_of

    members = load_members(run, _SAME, runs=runs, task="segment")
    loaded = members.first
    task, data = loaded.task, loaded.recipe.data
    assert isinstance(task, SegmentTask)
    assert isinstance(data, LabelledData)
    nets = [member.task.net for member in members.runs]
    segmenter = Segmenter(
        net=task.net
        if len(nets) == 1
        else SegmentNet(Ensemble([n.get_submodule("net") for n in nets]), task.net.heads).eval(),
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
    return segmenter, members.facts
