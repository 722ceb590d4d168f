"""Trials: short runs of a recipe with some values changed, each scored by the best value of one metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamella.core.errors import UserError
from lamella.recipe.tune.crew import abandoned, say
from lamella.recipe.tune.folder import Tuning, assignment
from lamella.recipe.tune.settings import Goal
from lamella.runs import RunFolder
from lamella.runs.folder import is_run

if TYPE_CHECKING:
    from lamella.recipe.recipe import Recipe
    from lamella.train.steps import Judge

QUIET = {"trainer.panels_every": 0, "trainer.graph": False}
"""What trials do without."""

DIVERGED = "diverged"
INTERRUPTED = "interrupted"


class NoSuchMetric(UserError):
    """The runs have no column of this name."""


@dataclass(frozen=True)
class Result:
    """How a trial went. ``value`` is the best of the metric, ``step`` when it was reached; a diverged trial has the worst value."""

    name: str
    changes: Mapping[str, Any]
    value: float
    step: int
    outcome: str
    seconds: float
    cpu_seconds: float

    @property
    def done(self) -> bool:
        return self.outcome != INTERRUPTED

    def row(self, goal: Goal) -> dict[str, Any]:
        """The trial as a row of a table."""
        return {
            "trial": self.name,
            goal.metric: self.value if math.isfinite(self.value) else None,
            **self.changes,
            "at step": self.step,
            "outcome": self.outcome,
            "seconds": self.seconds,
            "CPU seconds": self.cpu_seconds,
        }


@dataclass(frozen=True)
class Trial:
    """A trial to run: its name, what it changes, and what is set besides without being tuned (its length, for one)."""

    tuning: Tuning
    goal: Goal
    name: str
    changes: Mapping[str, Any]
    fixed: Mapping[str, Any]

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.tuning.trials / self.name)

    def recipe(self) -> Recipe:
        return self.tuning.recipe({**QUIET, **self.fixed, **self.changes})

    def __call__(self, judge: Judge | None = None) -> Result:
        """Train, from the start or from where a killed attempt stopped; a trial that is done already is only read."""
        from lamella.recipe.train import train
        from lamella.train.steps import Diverged

        if self.is_done():
            return self.result()
        try:
            train(self.recipe(), self.name, runs=self.tuning.trials, resume=True, judge=_unless_abandoned(judge))
        except Diverged:
            self.run.record(diverged=True)
        return self.result()

    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        if not is_run(self.run.path):
            return False
        facts = self.run.provenance()
        stopped = facts.get("state") in ("finished", "stopped") and facts.get("reason") != INTERRUPTED
        return stopped or bool(facts.get("diverged"))

    def result(self) -> Result:
        """What the trial's run says."""
        facts = self.run.provenance()
        diverged = bool(facts.get("diverged"))
        value, step = (self.goal.worst, 0) if diverged else self._best()
        return Result(
            self.name,
            self.changes,
            value,
            step,
            DIVERGED if diverged else facts["reason"],
            facts.get("seconds", math.nan),
            facts.get("cpu_seconds", math.nan),
        )

    def _best(self) -> tuple[float, int]:
        steps, values = self.run.metrics.curve(self.goal.metric)
        found = [(self.goal.sign * v, step, v) for step, v in zip(steps, values, strict=True) if math.isfinite(v)]
        if values and not found:
            return self.goal.worst, 0
        if not found and self.run.provenance().get("reason") == "finished":
            there = ", ".join(self.run.metrics.curves())
            raise NoSuchMetric(f"the trials measure no {self.goal.metric!r}; choose a --metric among {there}")
        _, step, value = min(found, default=(0, 0, math.nan))
        return value, int(step)

    def drop_checkpoints(self) -> None:
        """Free the disk of what only the best trial needs."""
        for name in self.run.checkpoints():
            self.run.checkpoint_path(name).unlink(missing_ok=True)


def check_recipe(recipe: Recipe, goal: Goal) -> None:
    """Refuse a recipe that cannot be tuned towards ``goal``, before anything is written."""
    from lamella.recipe.train import prepare

    if goal.metric.startswith("val/") and recipe.validation is None:
        raise UserError(
            f"{goal.metric} needs held-out samples and the recipe has no 'validation'; add validation.length and, better, "
            "validation.sources"
        )
    if "," in recipe.trainer.device:
        raise UserError(f"trials train on one device each, not on {recipe.trainer.device!r}; name one")
    prepare(recipe)


def better(results: Iterable[Result], goal: Goal) -> list[Result]:
    """Results from best to worst; those without a value last."""
    return sorted(results, key=lambda r: (math.isnan(r.value), goal.sign * r.value))


def keep_best(trials: Iterable[Trial], best: Result | None) -> None:
    """Drop the checkpoints of all trials that are done but the best."""
    for trial in trials:
        if trial.is_done() and (best is None or trial.name != best.name):
            trial.drop_checkpoints()


def tell(result: Result, best: Result, count: str, goal: Goal) -> None:
    """One line about a trial that has ended."""
    changes = " ".join(assignment(key, value) for key, value in result.changes.items())
    found = f"{goal.metric} {result.value:.4g} with {changes}, {result.outcome}"
    say(f"trial {result.name} ({count}): {found}; best {best.value:.4g} by {best.name}")


def _unless_abandoned(judge: Judge | None) -> Judge:
    def decide(step: int, row: Mapping[str, float | str]) -> str | None:
        return INTERRUPTED if abandoned() else judge(step, row) if judge else None

    return decide
