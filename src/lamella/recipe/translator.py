"""A trained translate run, ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.errors import UserError
from lamella.recipe.load import load_run

if TYPE_CHECKING:
    from lamella.infer import InferSettings
    from lamella.tasks.translate.translator import Translator


def load_translator(
    run: str | Path, settings: InferSettings | None = None, *, device: str = "auto", runs: str | Path = "runs"
) -> tuple[Translator, dict[str, Any]]:
    """The translator of ``RUN`` or ``RUN:CHECKPOINT``, from the run's folder alone, and what to record of where it came from."""
    from lamella.data.frames import FramesData
    from lamella.infer import InferSettings
    from lamella.tasks.translate.task import TranslateTask
    from lamella.tasks.translate.translator import Translator
    from lamella.train.config import device_of

    loaded = load_run(run, runs=runs, task="translate")
    task, data = loaded.task, loaded.recipe.data
    assert isinstance(task, TranslateTask)
    assert isinstance(data, FramesData)
    if data.measured is None or data.preprocessing.statistics is None:
        raise UserError(
            f"the recipe of run {loaded.folder.name!r} lacks data.measured, which training wrote; restore the recipe"
        )
    translator = Translator(
        net=task.net,
        preprocessing=data.preprocessing,
        inputs=data.inputs,
        measured=data.measured,
        depth=data.depth,
        segments=task.config.learn == "segmentation",
        mirror=max(data.per_axis(data.context)),
        settings=settings or InferSettings(),
        device=device_of(device),
    )
    facts = {"run": loaded.folder.name, "checkpoint": loaded.checkpoint, "recipe": loaded.recipe.to_dict()}
    return translator, facts
