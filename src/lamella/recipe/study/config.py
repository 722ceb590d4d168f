"""What a study is: a YAML file that says which images, which classes, how many points, and which methods are compared.

```yaml
train: {path: cells/train}              # points are drawn here, and here alone
validation: {path: cells/val}           # thresholds and checkpoints are chosen here
test: {path: cells/test}                # scored once, with what was chosen
points: [10, 20, 50, 100, 200, 1000]
seeds: 5
classes: {kind: foreground}
objects: {kind: watershed}
figure: AP50
contrast: {recipe: contrast, set: {trainer.steps: 2000}}
scratch: {recipe: head_baseline, set: {trainer.steps: 300}}
```

| method | is |
|---|---|
| ``embedding`` | a contrast run per seed, on the pool without labels; on its embeddings a head of the points |
| ``scratch`` | the same net with the same head, trained end to end from the same points |
| ``tuned`` | as ``scratch``, from the net of the contrast run in place of nothing; only if asked for |
| ``pixels`` | the same head on intensities alone |
| ``forest`` | a random forest on features of several scales |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from lamella.core.config import Config, override, read_yaml
from lamella.data.image_source import ImageSource
from lamella.data.labelled_source import LabelledSource
from lamella.ops.classes import ClassesConfig, Foreground
from lamella.ops.instances import Components, DistanceWatershed, Membranes
from lamella.ops.instances import Method as Instances
from lamella.tasks.head.forest import ForestConfig

Method = Literal["embedding", "scratch", "pixels", "forest", "tuned"]
METHODS: tuple[Method, ...] = ("embedding", "scratch", "pixels", "forest")
Objects = Annotated[Components | DistanceWatershed | Membranes, Field(discriminator="kind")]
Figure = Literal["AP50", "voi_sum"]


class Trained(Config):
    """How nets are trained: a recipe, and what is changed in it. Images, points, classes, net and seed are the study's."""

    recipe: str = Field(description="a shipped recipe, a YAML file, or the folder of a run")
    set: dict[str, Any] = Field({}, description="keys of the recipe to values, with dots or one in the other")

    @field_validator("set", mode="before")
    @classmethod
    def _dotted(cls, value: Any) -> Any:
        return dict(_flat(value)) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Way:
    """The ``number``-th way of making objects, at a threshold."""

    number: int
    method: Components | DistanceWatershed | Membranes
    threshold: float

    def build(self) -> Instances:
        """What makes them."""
        return self.method.model_copy(update={"threshold": self.threshold}).build()


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys as dotted ones, of which the last counts; what has a kind is set as a whole."""
    for name, value in values.items():
        if isinstance(value, Mapping) and "kind" not in value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


class HeadSettings(Config):
    """The head on embeddings and on pixels; its widths are those of ``scratch`` too."""

    hidden: tuple[int, ...] = Field((32,), description="widths of its hidden layers")
    decay: float = Field(0.1, ge=0, description="weight of the squared weights in its loss")
    steps: tuple[int, ...] = Field((5, 15, 60), min_length=1, description="steps of L-BFGS after which it is looked at")

    trust: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        description="how strong learnt channels are beside the intensities of the embedding; of several the validation images choose",
    )

    @field_validator("trust")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0 or len(set(value)) < len(value):
            raise ValueError("trust must be above 0, each once")
        return value

    @field_validator("steps")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1 or list(value) != sorted(set(value)):
            raise ValueError("steps must be at least 1 and rise")
        return value


class StudyConfig(Config):
    """A study; see the module."""

    train: LabelledSource = Field(description="images and labels that points are drawn from")
    validation: LabelledSource = Field(description="images and labels that thresholds and checkpoints are chosen on")
    test: LabelledSource = Field(description="images and labels that are scored once, with what was chosen")
    pool: tuple[ImageSource, ...] | None = Field(
        None, min_length=1, description="images without labels for the contrast runs; those of train if not given"
    )
    ndim: Literal[2, 3] = Field(2, description="2: sections, 3: volumes")
    sections: bool = Field(
        False,
        description="of volumes, score each section by itself: regions of a mask of membranes are no objects across sections",
    )
    classes: ClassesConfig = Field(Foreground(), description="what points are points of, and what is predicted")
    objects: tuple[Objects, ...] = Field(
        (DistanceWatershed(),),
        min_length=1,
        description="how objects are made of classes: one way, or several to choose from",
    )
    thresholds: tuple[float, ...] = Field(
        (0.3, 0.5, 0.7), min_length=1, description="thresholds of ``objects`` to choose from"
    )
    figure: Figure = Field(
        "AP50", description="what is compared; AP50 of all objects together, VOI as the mean over images"
    )
    background: Literal["segment", "ignored"] = Field(
        "ignored", description="VOI counts true background as a segment like others, or leaves it out"
    )
    points: tuple[int, ...] = Field((10, 20, 50, 100, 200, 1000), min_length=1, description="numbers of points")
    seeds: int = Field(5, ge=1, description="how often everything is done: other points, other first weights")
    methods: tuple[Method, ...] = Field(METHODS, min_length=1, description="what is compared")
    contrast: Trained = Trained(recipe="contrast")
    scratch: Trained = Trained(recipe="head_baseline")
    looks: int = Field(4, ge=1, description="how often, evenly spaced, a training end to end is looked at")
    head: HeadSettings = HeadSettings()
    forest: ForestConfig = ForestConfig()

    @field_validator("objects", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @field_serializer("objects")
    def _as_written(self, value: tuple[Objects, ...]) -> Any:
        found = [method.to_dict() for method in value]
        return found[0] if len(found) == 1 else found

    @field_validator("points")
    @classmethod
    def _counts(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 2 or list(value) != sorted(set(value)):
            raise ValueError("numbers of points must be at least 2 and rise")
        return value

    @field_validator("thresholds")
    @classmethod
    def _inside(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if wrong := [t for t in value if not 0 < t < 1]:
            raise ValueError(f"threshold {wrong[0]:g} is outside (0, 1); give for example [0.3, 0.5, 0.7]")
        return value

    @field_validator("methods")
    @classmethod
    def _once(cls, value: tuple[Method, ...]) -> tuple[Method, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a method is named twice; leave one out")
        return value

    @model_validator(mode="after")
    def _check(self) -> StudyConfig:
        if self.sections and self.ndim == 2:
            raise ValueError(
                "sections is for volumes, and ndim 2 looks at sections anyway; leave it out, or set ndim to 3"
            )
        if self.points[0] < len(self.classes.names):
            raise ValueError(
                f"{self.points[0]} points cannot show the {len(self.classes.names)} classes; give at least as many"
            )
        return self

    @property
    def ways(self) -> tuple[Way, ...]:
        """All ways of making objects that are tried on the validation images."""
        return tuple(Way(k, method, t) for k, method in enumerate(self.objects) for t in self.thresholds)

    @property
    def is_better_larger(self) -> bool:
        """Whether a larger figure is the better one."""
        return self.figure == "AP50"

    def lasting(self) -> dict[str, Any]:
        """What must stay as it is when a study goes on; points below the largest number, seeds and methods may be added."""
        kept = {k: v for k, v in self.to_dict().items() if k not in ("points", "seeds", "methods")}
        return {**kept, "most_points": self.points[-1]}


def read_study(path: str | Path, changes: list[str] | tuple[str, ...] = ()) -> StudyConfig:
    """The study of a YAML file, with ``key=value`` changes; raises UserError for what is none."""
    return StudyConfig.load(override(read_yaml(path), changes), str(path))
