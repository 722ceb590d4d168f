"""A trained defects run, ready to find defects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.recipe.load import load_run

if TYPE_CHECKING:
    from lamella.infer import InferSettings
    from lamella.tasks.defects.detector import Detector
    from lamella.tasks.defects.settings import FindSettings


def load_detector(
    run: str | Path,
    settings: FindSettings | None = None,
    net: InferSettings | None = None,
    *,
    mip: int = 0,
    device: str = "auto",
    runs: str | Path = "runs",
) -> tuple[Detector, dict[str, Any]]:
    """The detector of ``RUN`` or ``RUN:CHECKPOINT`` for sections of ``mip``, and what to record of where it came from.

    What ``settings`` say of masks comes before what the run's recipe says.
    """
    from lamella.data.stacks import StacksData
    from lamella.infer import InferSettings
    from lamella.tasks.defects.detector import Detector
    from lamella.tasks.defects.masks import MaskConfig
    from lamella.tasks.defects.task import DefectsTask
    from lamella.train.config import device_of

    loaded = load_run(run, runs=runs, task="defects")
    data = loaded.recipe.data
    assert isinstance(loaded.task, DefectsTask)
    assert isinstance(data, StacksData)
    own = loaded.task.config.masks.to_dict()
    masks = MaskConfig.load({**own, **(settings.changes if settings else {})}, "lamella defects")
    detector = Detector(loaded.task.net, data.normaliser.build(mip), masks, net or InferSettings(), device_of(device))
    facts = {"run": loaded.folder.name, "checkpoint": loaded.checkpoint, "recipe": loaded.recipe.to_dict()}
    return detector, facts
