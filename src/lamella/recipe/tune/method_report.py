"""Table and charts of a tuning of instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from lamella.recipe.tune.candidates import Values
from lamella.recipe.tune.method_scores import Sums, Unit, score_of
from lamella.recipe.tune.report import Chart, Findings
from lamella.recipe.tune.settings import MethodSettings, Score
from lamella.view.charts import COLOURS, chart
from lamella.view.report import Headline

INSTANCES = "task.instances"
_FOLDS = 10


@dataclass(frozen=True)
class Tried:
    """A setting, its sums on every unit, and its score on all of them."""

    values: Values
    sums: list[Sums]
    score: float


def find(tried: Sequence[Tried], units: Sequence[Unit], settings: MethodSettings) -> Findings:
    """What was found; the first of ``tried`` is the run's own setting."""
    ranked = sorted(tried, key=lambda t: -t.score)
    own, best, worst = tried[0], ranked[0], ranked[-1]
    kinds = list(dict.fromkeys(t.values["kind"] for t in ranked))
    figures = [
        Headline(settings.score, f"{best.score:.4f}", f"{own.score:.4f} before"),
        Headline("method", str(best.values["kind"]), f"{len(tried)} settings of {', '.join(kinds)}"),
        Headline("spread", f"{best.score - worst.score:.3f}", "between the best and the worst setting"),
    ]
    if (expected := left_out(tried, settings.score)) is not None:
        figures.insert(1, Headline("on images left out", f"{expected:.4f}", "what to expect of other images"))
    return Findings(
        title="Instances",
        lead=f"{len(tried)} settings on the maps of {len(units)} images, of which the net predicted each once.",
        rows=[_row(t) for t in ranked],
        charts=[Chart("settings.png", _curves(ranked, kinds, settings.score), "All settings, the best of each method first."),
                *_by_setting(ranked, str(best.values["kind"]), settings.score)],
        winner={INSTANCES: best.values},
        headlines=figures,
    )  # fmt: skip


def left_out(tried: Sequence[Tried], score: Score) -> float | None:
    """The score of images on which the setting was not chosen, in up to ten groups; None for a single image.

    For each group, of the settings the best on all others is scored on it; the groups' sums are then taken together.
    """
    number = len(tried[0].sums)
    if number < 2:
        return None
    folds = min(number, _FOLDS)
    unseen: list[Sums] = []
    for fold in range(folds):
        others = [k for k in range(number) if k % folds != fold]
        best = max(tried, key=lambda t: score_of([t.sums[k] for k in others], score))
        unseen += [best.sums[k] for k in range(fold, number, folds)]
    return score_of(unseen, score)


def _row(tried: Tried) -> dict[str, Any]:
    return {**{name: score_of(tried.sums, name) for name in get_args(Score)}, **tried.values}


def _curves(ranked: Sequence[Tried], kinds: Sequence[str], score: Score) -> bytes:
    with chart("settings, the best first", score) as (axes, made):
        for n, kind in enumerate(kinds):
            scores = [t.score for t in ranked if t.values["kind"] == kind]
            axes.plot(range(1, len(scores) + 1), scores, color=COLOURS[n % len(COLOURS)], linewidth=1.5, label=kind)
    return made[0]


def _by_setting(ranked: Sequence[Tried], kind: str, score: Score) -> list[Chart]:
    """A chart of the score against every number of the winner's method that was varied."""
    mine = [t for t in ranked if t.values["kind"] == kind]
    made = []
    for key, value in mine[0].values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        points = [(float(t.values[key]), t.score) for t in mine] if is_number else []
        if len({x for x, _ in points}) > 1:
            made.append(
                Chart(
                    f"{key}.png", _points(key, points, score), f"{score} of {kind} against {key}; the winner is marked."
                )
            )
    return made


def _points(key: str, points: Sequence[tuple[float, float]], score: Score) -> bytes:
    low = min(s for _, s in points)
    with chart(key, score, size=(4.6, 2.6)) as (axes, made):
        axes.plot(*zip(*points, strict=True), "o", color=COLOURS[0], alpha=0.35, markersize=3)
        axes.plot(*points[0], "o", color=COLOURS[1], markersize=6)
        axes.set_ylim(math.floor(low * 20) / 20, None)
    return made[0]
