"""The staged search for a learning rate: many rates for a few steps, fewer around the best for longer, and again.

```
10^-6 .. 10^-1     20 rates,   100 steps      stage 1, log-uniform
   |  best  |
  -1 .. +1         10 rates,   500 steps      stage 2, decades around the best of stage 1
    | best |
   -.1 .. +.1       5 rates,  1000 steps      stage 3, decades around the best of stage 2
```
The winner is the best rate of the last stage. Losses after different numbers of steps are never compared: each stage looks only at
its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.recipe.find import parse_recipe
from lamella.recipe.tune.crew import each
from lamella.recipe.tune.folder import Tuning
from lamella.recipe.tune.report import Chart, Findings, write_findings
from lamella.recipe.tune.settings import RateSettings, numbers
from lamella.recipe.tune.trials import Result, Trial, better, check_recipe, keep_best, tell
from lamella.view.charts import COLOURS, chart
from lamella.view.report import Headline, number

RATE = "trainer.learning_rate"
_VALIDATIONS = 5  # in a trial, at least


def tune_rate(
    values: Mapping[str, Any], out: Path, settings: RateSettings, *, overwrite: bool = False
) -> tuple[Tuning, Findings]:
    """Search in stages in the folder ``out``, which may hold a part of it already.

    Raises UserError for a recipe that cannot be trained, an ``out`` that holds something else, and rates none of which learns.
    """
    check_recipe(parse_recipe(dict(values), "the recipe"), settings)
    tuning = Tuning.begin(out, "lr", values, settings.to_dict(), may_change=["jobs"], overwrite=overwrite)
    with tuning.alone():
        trials: list[Trial] = []
        stages: list[list[Result]] = []
        for stage in range(len(settings.stages)):
            centre = float(stages[-1][0].changes[RATE]) if stages else None
            begun = stage_trials(tuning, settings, stage, centre)
            trials += begun
            stages.append(_run(begun, settings, tuning))
            keep_best(trials, stages[-1][0])
            write_findings(tuning, found := _findings(stages, settings))
    return tuning, found


def stage_rates(settings: RateSettings, stage: int, centre: float | None) -> list[float]:
    """The rates of a stage: log-uniform between ``low`` and ``high``, or around ``centre``, the best of the stage before."""
    low, high = math.log10(settings.low), math.log10(settings.high)
    if centre is not None:
        span = numbers(settings.spans)[stage - 1]
        low, high = math.log10(centre) - span, math.log10(centre) + span
    count, _ = settings.stages[stage]
    return [float(10**x) for x in stream(settings.seed, "rates", stage).uniform(low, high, count)]


def stage_trials(tuning: Tuning, settings: RateSettings, stage: int, centre: float | None) -> list[Trial]:
    """The trials of a stage."""
    trainer = tuning.recipe().trainer
    _, steps = settings.stages[stage]
    fixed = {
        "trainer.steps": steps,
        "trainer.validate_every": max(1, min(trainer.validate_every, steps // _VALIDATIONS)),
        "trainer.checkpoint_every": min(trainer.checkpoint_every, steps),
        "trainer.keep_every": None,
    }
    return [
        Trial(tuning, settings, f"stage{stage + 1}_{i:02d}", {RATE: rate}, fixed)
        for i, rate in enumerate(stage_rates(settings, stage, centre))
    ]


def _run(trials: Sequence[Trial], settings: RateSettings, tuning: Tuning) -> list[Result]:
    """The results of a stage, the best first."""
    results = [trial.result() for trial in trials if trial.is_done()]
    left = [trial for trial in trials if not trial.is_done()]
    for result in each(_call, left, settings.jobs, tuning.path / "log.txt"):
        if not result.done:
            raise KeyboardInterrupt
        results = better([*results, result], settings)
        tell(result, results[0], f"{len(results)}/{len(trials)}", settings)
    results = better(results, settings)
    if not math.isfinite(results[0].value):
        raise UserError(
            f"no rate between {min(t.changes[RATE] for t in trials):.2g} and {max(t.changes[RATE] for t in trials):.2g} gives a "
            f"finite {settings.metric}; lower --low and --high, or check the data"
        )
    return results


def _call(trial: Trial) -> Result:
    return trial()


def _findings(stages: Sequence[Sequence[Result]], settings: RateSettings) -> Findings:
    best = stages[-1][0]
    rows = [{"stage": n, **r.row(settings)} for n, stage in reversed(list(enumerate(stages, 1))) for r in stage]
    rate = float(best.changes[RATE])
    diverged = sum(not math.isfinite(r.value) for stage in stages for r in stage)
    steps = ", ".join(str(s) for _, s in settings.stages[: len(stages)])
    caption = f"Best {settings.metric} of every trial against its rate; {steps} steps in the stages."
    return Findings(
        title="Learning rate",
        lead=f"Staged log-uniform search from {settings.low:g} to {settings.high:g}; the winner is the best of the last stage.",
        rows=rows,
        charts=[Chart("rates.png", _draw(stages, settings), caption)],
        winner=best.changes,
        headlines=[
            Headline("learning rate", f"{rate:.3g}", f"stage {len(stages)} of {len(settings.stages)}"),
            Headline(settings.metric, number(best.value), f"at step {best.step}"),
            Headline("trials", str(sum(map(len, stages))), f"{diverged} diverged"),
        ],
    )


def _draw(stages: Sequence[Sequence[Result]], settings: RateSettings) -> bytes:
    with chart("learning rate", settings.metric) as (axes, made):
        for n, stage in enumerate(stages):
            shown = [(r.changes[RATE], r.value) for r in stage if math.isfinite(r.value)]
            axes.plot(
                *zip(*shown, strict=True), "o", color=COLOURS[n % len(COLOURS)], markersize=4, label=f"stage {n + 1}"
            )
        axes.axvline(float(stages[-1][0].changes[RATE]), color=COLOURS[-1], linewidth=1)
        axes.set_xscale("log")
        if all(r.value > 0 for stage in stages for r in stage):
            axes.set_yscale("log")
    return made[0]
