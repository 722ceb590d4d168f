"""A trained translate run, ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.errors import UserError
from lamella.recipe.load import load_members

if TYPE_CHECKING:
    from lamella.infer import InferSettings
    from lamella.tasks.translate.translator import Translator


_SAME = (  # what runs must have in common for their outputs to be averaged
    *("task.net.kind", "task.net.ndim", "task.net.output", "task.net.padding"),
    *("task.final", "task.learn", "task.channels", "task.targets"),
    *("data.inputs", "data.depth", "data.preprocessing", "data.measured"),
)


def load_translator(
    run: str | Path, settings: InferSettings | None = None, *, device: str = "auto", runs: str | Path = "runs"
) -> tuple[Translator, dict[str, Any]]:
    """The translator of ``RUN`` or ``RUN:CHECKPOINT``, from the run's folder alone, and what to record of where it came from.

    Several runs with commas between are averaged, if they were trained alike but for their seed, length and images.
    """
    from lamella.data.frames import FramesData
    from lamella.infer import InferSettings
    from lamella.nets.ensemble import Ensemble
    from lamella.tasks.translate.net import TranslateNet
    from lamella.tasks.translate.task import TranslateTask
    from lamella.tasks.translate.translator import Translator
    from lamella.train.config import device_of

    members = load_members(run, _SAME, runs=runs, task="translate")
    loaded = members.first
    task, data = loaded.task, loaded.recipe.data
    assert isinstance(task, TranslateTask)
    assert isinstance(data, FramesData)
    if data.measured is None or data.preprocessing.statistics is None:
        raise UserError(
            f"the recipe of run {loaded.folder.name!r} lacks data.measured, which training wrote; restore the recipe"
        )
    nets = [member.task.net for member in members.runs]
    translator = Translator(
        net=task.net
        if len(nets) == 1
        else TranslateNet(Ensemble([n.get_submodule("net") for n in nets]), task.net.final).eval(),
        preprocessing=data.preprocessing,
        inputs=data.inputs,
        measured=data.measured,
        depth=data.depth,
        segments=task.config.learn == "segmentation",
        mirror=max(data.per_axis(data.context)),
        settings=settings or InferSettings(),
        device=device_of(device),
    )
    return translator, members.facts
