"""Table and charts of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from lamella.recipe.tune.report import Chart, Findings
from lamella.recipe.tune.search import Search
from lamella.recipe.tune.settings import Goal
from lamella.recipe.tune.space import Range, changes
from lamella.recipe.tune.study import outcome, trial_name
from lamella.view.charts import COLOURS, chart
from lamella.view.report import Headline, number

if TYPE_CHECKING:
    from lamella.recipe.tune.study import Study


def find(job: Search, study: Study) -> Findings:
    """What a search has found so far; there must be a best trial."""
    best, goal = study.best(), job.settings
    assert best is not None
    drawn = [trial for trial in study.trials() if len(trial.params) == len(job.ranges)]  # others are being drawn now
    trials = sorted(drawn, key=lambda t: _rank(t, goal))
    states = [trial.state for trial in trials]
    counts = {name: states.count(state) for name, state in _STATES.items()}
    return Findings(
        title="Search",
        lead=f"{len(trials)} trials over {', '.join(r.key for r in job.ranges)}.",
        rows=[_row(trial, job) for trial in trials],
        charts=_charts(trials, job, study.importances()),
        winner=changes(job.ranges, best.params),
        headlines=[
            Headline(f"best {goal.metric}", number(best.value), f"trial {trial_name(best.number)}"),
            Headline("trials", str(len(trials)), ", ".join(f"{n} {name}" for name, n in counts.items() if n)),
        ],
    )


_STATES = {
    "complete": TrialState.COMPLETE,
    "ended early": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


def _rank(trial: FrozenTrial, goal: Goal) -> tuple[int, float, int]:
    """Complete trials by value, then those that ended early by their last score, then the others."""
    place = list(_STATES.values()).index(trial.state)
    value = trial.value if trial.value is not None and math.isfinite(trial.value) else goal.worst
    return place, goal.sign * value, trial.number


def _row(trial: FrozenTrial, job: Search) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else None
    value = trial.value if trial.value is not None and math.isfinite(trial.value) else None
    return {
        "trial": trial_name(trial.number),
        job.settings.metric: value,
        **changes(job.ranges, trial.params),
        "outcome": outcome(trial),
        "steps scored": len(trial.intermediate_values),
        "seconds": seconds,
    }


def _charts(trials: Sequence[FrozenTrial], job: Search, importances: dict[str, float]) -> list[Chart]:
    scored = [t for t in trials if t.value is not None and math.isfinite(t.value)]
    metric = job.settings.metric
    made = [
        Chart(
            "history.png",
            _history(scored, job.settings),
            f"{metric} of each trial in the order of trials, and the best so far.",
        ),
        Chart("keys.png", _parallel(scored, job), f"Each line is a trial; the darker, the better its {metric}."),
    ]
    if importances:
        caption = f"Share of each key in what makes the best trials differ from the others ({metric}, PED-ANOVA)."
        made.append(Chart("importance.png", _importance(importances), caption))
    return made


def _history(trials: Sequence[FrozenTrial], goal: Goal) -> bytes:
    complete = sorted((t.number, t.value) for t in trials if t.state == TrialState.COMPLETE and t.value is not None)
    early = [(t.number, t.value) for t in trials if t.state == TrialState.PRUNED]
    numbers, values = (np.array(x, float) for x in zip(*complete, strict=True))
    best = goal.sign * np.minimum.accumulate(goal.sign * values)
    with chart("trial", goal.metric) as (axes, made):
        axes.plot(numbers, values, "o", color=COLOURS[0], markersize=4, label="complete")
        if early:
            axes.plot(*zip(*early, strict=True), "x", color=COLOURS[4], markersize=4, label="ended early")
        axes.step(numbers, best, where="post", color=COLOURS[1], linewidth=1.5, label="best so far")
    return made[0]


def _importance(importances: dict[str, float]) -> bytes:
    with chart("importance", "", size=(7.2, 0.8 + 0.35 * len(importances))) as (axes, made):
        names = list(importances)[::-1]
        axes.barh(names, [importances[name] for name in names], color=COLOURS[0], height=0.6)
        axes.set_xlim(0, 1)
    return made[0]


def _parallel(trials: Sequence[FrozenTrial], job: Search) -> bytes:
    """Parallel coordinates: one upright for each key, from its lowest to its highest value, and one for the metric."""
    goal, uprights = job.settings, len(job.ranges)
    best_first = sorted(trials, key=lambda t: _rank(t, goal))
    values = np.array([t.value for t in best_first], float)
    low, high = float(values.min()), float(values.max())
    with chart("", "", size=(max(7.2, 1.6 * (uprights + 1)), 3.6)) as (axes, made):
        for place, trial in reversed(list(enumerate(best_first))):
            heights = [_height(r, trial.params[r.key]) for r in job.ranges]
            heights.append(0.5 if high == low else (values[place] - low) / (high - low))
            shade = 1 - place / max(len(best_first) - 1, 1)
            axes.plot(heights, color=COLOURS[0], alpha=0.12 + 0.8 * shade**2, linewidth=0.8 + 1.2 * (place == 0))
        axes.set_xticks(range(uprights + 1), [*(r.key.replace(".", ".\n") for r in job.ranges), goal.metric])
        axes.set_yticks([])
        for x, (bottom, top) in enumerate([*map(_ends, job.ranges), (number(low), number(high))]):
            axes.text(x + 0.02, -0.06, bottom, fontsize=8)
            axes.text(x + 0.02, 1.02, top, fontsize=8)
        axes.set_ylim(-0.12, 1.12)
    return made[0]


def _height(tried: Range, drawn: Any) -> float:
    """Where a value lies between the ends of its range, 0 to 1."""
    if tried.kind == "choice":
        return tried.choices.index(tried.value(drawn)) / (len(tried.choices) - 1)
    low, high, value = (math.log(x) if tried.log else float(x) for x in (tried.low, tried.high, drawn))
    return (value - low) / (high - low)


def _ends(tried: Range) -> tuple[str, str]:
    first, last = tried.corners()[0], tried.corners()[-1]
    return (f"{first:g}", f"{last:g}") if tried.kind != "choice" else (str(first), str(last))
