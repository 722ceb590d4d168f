"""A recipe: everything that a training needs to be told, and where tasks and data sets are registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from lamella.core.config import Config
from lamella.data.frames import FramesData
from lamella.data.images import ImagesData
from lamella.data.labelled import LabelledData
from lamella.data.points import PointsData
from lamella.data.stacks import StacksData
from lamella.tasks.align.task import AlignConfig
from lamella.tasks.contrast.config import ContrastConfig
from lamella.tasks.defects.config import DefectsConfig
from lamella.tasks.head.config import HeadConfig
from lamella.tasks.segment.config import SegmentConfig
from lamella.tasks.translate.config import TranslateConfig, following
from lamella.train.config import TrainerConfig

# One name per task, the kinds of data that it learns from (the first if none is named), and a member of each union.
TASKS = {
    "align": AlignConfig,
    "segment": SegmentConfig,
    "contrast": ContrastConfig,
    "head": HeadConfig,
    "translate": TranslateConfig,
    "defects": DefectsConfig,
}
DATA = {
    "align": ("stacks",),
    "segment": ("labelled",),
    "contrast": ("images",),
    "head": ("labelled", "points"),
    "translate": ("frames",),
    "defects": ("stacks",),
}
TaskConfig = Annotated[
    AlignConfig | SegmentConfig | ContrastConfig | HeadConfig | TranslateConfig | DefectsConfig,
    Field(discriminator="kind"),
]
DataConfig = Annotated[StacksData | LabelledData | ImagesData | PointsData | FramesData, Field(discriminator="kind")]
_OF_ITS_KIND = ("kind", "sources", "points", "num_points", "per_sample")  # never shared by data of two kinds


class Recipe(Config):
    """What to learn, from what, and how."""

    task: TaskConfig
    data: DataConfig
    validation: DataConfig | None = None
    """Held-out samples; keys that are left out are those of ``data``, ``length`` says how many (for ``labelled`` and ``images`` data
    without a length: every image once)."""
    trainer: TrainerConfig = TrainerConfig()
    seed: int = 0
    """All chance of the run comes from it: first weights, samples, augmentation."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """The kind of data follows from the task, and what validation leaves out from the data."""
        if not isinstance(values, Mapping) or not isinstance(values.get("data"), Mapping):
            return values
        task, data = values.get("task"), dict(values["data"])
        kind = task.get("kind") if isinstance(task, Mapping) else None
        data = {"kind": DATA[kind][0], **data} if kind in DATA else data
        values = {**values, "data": data}
        if kind == "translate" and isinstance(task, Mapping):
            values["task"] = following(task, data)
        if isinstance(values.get("validation"), Mapping):
            given = values["validation"]
            alike = given.get("kind", data.get("kind")) == data.get("kind")
            left = ("length",) if alike else ("length", *_OF_ITS_KIND, "crop", "objects", "trim", "ignore", "draw")
            values["validation"] = {**{k: v for k, v in data.items() if k not in left}, **given}
        return values

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        wanted = DATA[self.task.kind]
        if wrong := next((d.kind for d in (self.data, self.validation) if d and d.kind not in wanted), None):
            kinds = " or ".join(repr(kind) for kind in wanted)
            raise ValueError(f"task {self.task.kind!r} learns from data of kind {kinds}, not {wrong!r}")
        if self.validation is not None and self.validation.length is None and self.validation.held_out_needs_length:
            raise ValueError("validation.length is missing; set it to the number of held-out samples, for example 32")
        self._check_apart()
        return self

    def _check_apart(self) -> None:
        """Refuse windows that hold no pair of sections as far apart as the aligner is to see."""
        if not isinstance(self.task, AlignConfig):
            return
        for name, data in (("data", self.data), ("validation", self.validation)):
            if isinstance(data, StacksData) and data.sections <= self.task.apart:
                raise ValueError(
                    f"{name}.sections {data.sections} holds no pair of sections {self.task.apart} apart; set it to "
                    f"{self.task.apart + 1} or more" + (", or lower task.apart" if self.task.apart > 1 else "")
                )

    def settled(self) -> Recipe:
        """With everything written down that is measured of the data or dealt out before a training, so that the run can be used, and
        gone on with, by its recipe alone."""
        if not isinstance(self.data, FramesData):
            return self
        data = self.data.settled()
        validation = self.validation.like(data) if isinstance(self.validation, FramesData) else self.validation
        return self.model_copy(update={"data": data, "validation": validation})

    def beside(self) -> dict[str, dict[str, Any]]:
        """Parts of a settled recipe that other recipes may refer to, by the name of the file that a run keeps them in."""
        split = self.data.split if isinstance(self.data, FramesData) else None
        return {} if split is None else {"split.json": split.to_dict()}
