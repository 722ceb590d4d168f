"""Table and charts of batch sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lamella.recipe.tune.memory import Probe
from lamella.recipe.tune.report import Chart, Findings
from lamella.recipe.tune.settings import BatchSettings
from lamella.recipe.tune.trials import Result
from lamella.view.charts import COLOURS, chart
from lamella.view.report import Headline, number

_GB = 1e9
_EQUAL = {"seconds": "seconds", "cpu_seconds": "CPU seconds", "samples": "samples"}


@dataclass(frozen=True)
class Learnt:
    """A batch size: what it takes, and what came of its training of so many steps."""

    probe: Probe
    result: Result
    steps: int


def find(
    learnt: Sequence[Learnt],
    best: Result,
    settings: BatchSettings,
    largest: int | None,
    allowed: int | None,
    found: str,
) -> Findings:
    """What was found; ``largest`` is the largest size that fits, ``allowed`` the bytes that it may take."""
    winner = next(one for one in learnt if one.result.name == best.name)
    fastest = max(learnt, key=lambda one: one.probe.rate)
    ranked = sorted(learnt, key=lambda one: (math.isnan(one.result.value), settings.sign * one.result.value))
    equal = f"{settings.budget:g} {_EQUAL[settings.by]}"
    return Findings(
        title="Batch size",
        lead=f"Every size trained for {equal}; memory and speed are those of a few steps, measured in a process of its own.",
        rows=[_row(one, settings) for one in ranked],
        charts=_charts(learnt, settings, equal, allowed),
        winner=best.changes,
        headlines=[
            Headline("batch size", str(winner.probe.size), f"best {settings.metric}, {number(best.value)}, in {equal}"),
            Headline("fastest", str(fastest.probe.size), f"{fastest.probe.rate:.3g} samples/s"),
            Headline("largest that fits", f"about {largest}" if largest else f"over {learnt[-1].probe.size}", found),
        ],
    )


def _row(one: Learnt, settings: BatchSettings) -> dict[str, object]:
    return {
        "batch size": one.probe.size,
        settings.metric: one.result.value if math.isfinite(one.result.value) else None,
        "samples/s": one.probe.rate,
        "samples/CPU s": one.probe.cpu_rate,
        "memory GB": one.probe.peak / _GB,
        "before the first step GB": one.probe.base / _GB,
        "steps": one.steps,
        "at step": one.result.step,
        "outcome": one.result.outcome,
        "seconds": one.result.seconds,
        "CPU seconds": one.result.cpu_seconds,
        **{key: value for key, value in one.result.changes.items() if key != "trainer.batch_size"},
    }


def _charts(learnt: Sequence[Learnt], settings: BatchSettings, equal: str, allowed: int | None) -> list[Chart]:
    sizes = [one.probe.size for one in learnt]
    scores = [one.result.value for one in learnt]
    speed = {"a second": [one.probe.rate for one in learnt], "a CPU second": [one.probe.cpu_rate for one in learnt]}
    memory = {"peak": [one.probe.peak / _GB for one in learnt]}
    level = allowed / _GB if allowed else None
    return [
        Chart(
            "score.png", _draw(sizes, {settings.metric: scores}, settings.metric), f"{settings.metric} after {equal}."
        ),
        Chart("speed.png", _draw(sizes, speed, "samples"), "Samples that are trained on in a second."),
        Chart(
            "memory.png",
            _draw(sizes, memory, "GB", level),
            "Most memory of the training; the line is what it may take.",
        ),
    ]


def _draw(sizes: Sequence[int], series: dict[str, list[float]], label: str, level: float | None = None) -> bytes:
    with chart("batch size", label, size=(4.6, 2.8)) as (axes, made):
        for colour, (name, values) in zip(COLOURS, series.items(), strict=False):
            axes.plot(sizes, values, color=colour, marker="o", markersize=4, label=name if len(series) > 1 else None)
        if level is not None:
            axes.axhline(level, color=COLOURS[5], linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
    return made[0]
