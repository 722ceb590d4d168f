"""A recipe: everything that a training needs to be told, and where tasks and data sets are registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from lamella.core.config import Config
from lamella.data.stacks import StacksData
from lamella.tasks.align.task import AlignConfig
from lamella.train.config import TrainerConfig

# One line per task and per kind of data. With a second one each becomes a union, discriminated on ``kind``.
TASKS = {"align": AlignConfig}
TaskConfig = AlignConfig
DataConfig = StacksData


class Recipe(Config):
    """What to learn, from what, and how."""

    task: TaskConfig
    data: DataConfig
    validation: DataConfig | None = None
    """Held-out samples; keys that are left out are those of ``data``, ``length`` says how many (for ``labelled`` data without a
    length: every image once)."""
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0
    """All chance of the run comes from it: first weights, samples, augmentation."""

    @model_validator(mode="before")
    @classmethod
    def _fill_validation(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("validation"), Mapping):
            return values
        data = values.get("data")
        own = {key: value for key, value in data.items() if key != "length"} if isinstance(data, Mapping) else {}
        return {**values, "validation": {**own, **values["validation"]}}

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.validation is not None and self.validation.length is None and self.validation.held_out_needs_length:
            raise ValueError("validation.length is missing; set it to the number of held-out samples, for example 32")
        return self
