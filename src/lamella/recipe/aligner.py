"""A trained align run as an estimator of fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.recipe.load import load_run
from lamella.tasks.align.settings import AlignSettings

if TYPE_CHECKING:
    from lamella.tasks.align.estimate import Estimator


def load_estimator(
    run: str | Path, settings: AlignSettings, *, mip: int = 0, device: str = "auto", runs: str | Path = "runs"
) -> tuple[Estimator, dict[str, Any]]:
    """The estimator of ``RUN`` or ``RUN:CHECKPOINT`` for sections of ``mip``, and what to record of where it came from."""
    from lamella.tasks.align.estimate import Estimator
    from lamella.tasks.align.task import AlignTask
    from lamella.train.config import TrainerConfig, accelerator

    loaded = load_run(run, runs=runs, task="align")
    kind, devices = accelerator(TrainerConfig.load({"device": device}, "--device"))
    where = f"cuda:{devices[0]}" if isinstance(devices, list) else kind
    assert isinstance(loaded.task, AlignTask)
    normalise = loaded.recipe.data.normaliser.build(mip)
    estimator = Estimator(loaded.task.net, normalise, settings.flip, settings.passes, where)
    facts = {
        "run": str(loaded.folder.path),
        "checkpoint": loaded.checkpoint,
        "recipe": loaded.recipe.to_dict(),
    }
    return estimator, facts
