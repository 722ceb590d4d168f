"""What the verbs of ``lamella tune`` are asked for; in a file of its own so that ``--help`` imports nothing heavy."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lamella.core.config import Config


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them; ValueError if one is none."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("give numbers with commas between them, for example 20,10,5") from None


class Goal(Config):
    """What makes one trial better than another."""

    metric: str = Field("val/total", description="metric whose best value counts, a column of metrics.csv")
    mode: Literal["min", "max"] = Field("min", description="whether the metric should be small (min) or large (max)")

    @property
    def sign(self) -> int:
        """1 if small is good, -1 if large is."""
        return 1 if self.mode == "min" else -1

    @property
    def worst(self) -> float:
        return self.sign * math.inf


_Jobs = Annotated[int, Field(ge=1, description="trials that run at the same time, each in a process")]


class RateSettings(Goal):
    """Options of ``lamella tune lr``: stages, or with ``finder`` one ramp."""

    finder: bool = Field(False, description="one training with a rising rate instead of the staged search")
    low: float = Field(1e-6, gt=0, description="lowest rate")
    high: float = Field(1e-1, gt=0, description="highest rate")
    counts: str = Field("20,10,5", description="rates in each stage")
    steps: str = Field("100,500,1000", description="steps of a trial in each stage")
    spans: str = Field(
        "1,0.1", description="decades on each side of the best rate of a stage that the next one draws from"
    )
    ramp_steps: int = Field(300, ge=10, description="steps of the finder's training")
    ramp: Literal["exponential", "linear"] = Field("exponential", description="how the finder's rate rises")
    smooth: float = Field(
        0.03, gt=0, lt=0.5, description="width of the smoothing of the finder's losses, as a share of its steps"
    )
    stop: float = Field(4.0, gt=1, description="the finder stops where the loss is this many times its lowest")
    seed: int = Field(0, ge=0, description="seed of the rates that are drawn")
    jobs: _Jobs = 1

    @field_validator("counts", "steps", "spans")
    @classmethod
    def _numbers(cls, value: str) -> str:
        if any(number <= 0 for number in numbers(value)):
            raise ValueError("give numbers above 0")
        return value

    @model_validator(mode="after")
    def _check(self) -> RateSettings:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        stages = [len(numbers(text)) for text in (self.counts, self.steps)] + [len(numbers(self.spans)) + 1]
        if len(set(stages)) > 1:
            raise ValueError(
                f"counts {self.counts}, steps {self.steps} and spans {self.spans} do not fit: give one count and one number of "
                "steps for each stage, and one span for each but the first"
            )
        return self

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Number of rates and of steps in each stage."""
        return [(int(n), int(s)) for n, s in zip(numbers(self.counts), numbers(self.steps), strict=True)]


class BatchSettings(Goal):
    """Options of ``lamella tune batch``."""

    sizes: str = Field("2,4,8,16,32,64,128", description="batch sizes to try, as far as they fit into memory")
    by: Literal["seconds", "cpu_seconds", "samples"] = Field(
        "seconds", description="what every size gets the same of: wall time, CPU time or training samples"
    )
    budget: float = Field(60.0, gt=0, description="how much of it")
    rate: Literal["fixed", "sqrt", "linear"] = Field(
        "fixed",
        description="how the learning rate follows the batch size, from that of the recipe at its own batch size",
    )
    memory: float = Field(
        0.8, gt=0, le=1, description="share of the memory that is free on the CPU that a training may take"
    )

    @field_validator("sizes")
    @classmethod
    def _sizes(cls, value: str) -> str:
        found = numbers(value)
        if any(size < 1 or size != int(size) for size in found) or list(found) != sorted(set(found)):
            raise ValueError("give whole numbers that rise, for example 2,4,8")
        return value

    @property
    def batch_sizes(self) -> list[int]:
        return [int(size) for size in numbers(self.sizes)]


class SearchSettings(Goal):
    """Options of ``lamella tune search``."""

    trials: int = Field(50, ge=1, description="trials of the whole study, whoever runs them")
    sampler: Literal["tpe", "random"] = Field(
        "tpe",
        description="how values are chosen: tree-structured Parzen estimators after ten random trials, or at random",
    )
    pruner: Literal["median", "hyperband", "none"] = Field(
        "median", description="which trials end early: those worse than the median at the same step, hyperband, or none"
    )
    retries: int = Field(
        2, ge=0, description="how often a trial that was killed is taken up again before it counts as failed"
    )
    seed: int = Field(0, ge=0, description="seed of the values that are drawn")
    jobs: _Jobs = 1


Score = Literal["AP50", "AP75", "mAP", "F1", "PQ", "SEG", "AP50_img", "mAP_img"]


class MethodSettings(Config):
    """Options of ``lamella tune instances``."""

    score: Score = Field(
        "AP50",
        description="what to raise, counted over the objects of all images: AP at IoU 0.5 or 0.75, its mean over 0.5 to 0.95, F1, "
        "panoptic quality, SEG; with _img the mean over images",
    )
    kind: str | None = Field(
        None,
        description="method, or several with commas: components, watershed, basins, membranes; all but the last if not given",
    )
    candidates: int = Field(64, ge=1, description="settings of each method to try first")
    rounds: int = Field(
        2, ge=0, description="times that the neighbourhood of the best is searched, each time more closely"
    )
    labels: str | None = Field(None, description="folder, file or name of the labels, where DATA leaves a choice")
    names: str | None = Field(None, description="only these images: a text file of names, or FILE.json:KEY")
    ignore: str | None = Field(
        None, description="labels of regions that count for nothing: 1 or 1,7; those of the training if not given"
    )
    device: str = Field("auto", description="device for the maps: auto (a GPU if there is one), cpu, cuda or cuda:1")
    runs: str = Field("runs", description="folder that holds the runs")
    seed: int = Field(0, ge=0, description="seed of the settings that are tried")
    jobs: int | None = Field(None, ge=1, description="processes; as many as there are processors if not given")

    @field_validator("ignore")
    @classmethod
    def _labels(cls, value: str | None) -> str | None:
        if value and not all(part.strip().isdigit() for part in value.split(",")):
            raise ValueError("give whole numbers with commas between them, for example 1,7")
        return value

    @property
    def ignored(self) -> tuple[int, ...] | None:
        return None if self.ignore is None else tuple(int(n) for n in self.ignore.split(",") if n.strip())

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.kind.split(",")) if self.kind else ()
