r"""The range finder: one training whose rate rises from step to step tells which rates learn (Smith 2017).

```
loss ‾‾‾\                       |
         \  steepest: base      | the loss rises again
          \                     /
           \______ lowest _____/
                  maximum
     low -> rate -> high
```
The rate at which the smoothed loss falls fastest over the logarithm of the rate is one to train with, or the ``base`` of a cycle;
the rate at which it is lowest is the ``maximum``, beyond which the training becomes unstable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from lamella.core.errors import UserError
from lamella.recipe.find import parse_recipe
from lamella.recipe.recipe import Recipe
from lamella.recipe.tune.folder import Tuning
from lamella.recipe.tune.rates import RATE
from lamella.recipe.tune.report import Chart, Findings, write_findings
from lamella.recipe.tune.settings import Goal, RateSettings
from lamella.recipe.tune.trials import Trial, check_recipe
from lamella.view.charts import COLOURS, chart
from lamella.view.report import Headline

_GOAL = Goal(metric="train/total")
_FADE = 0.9  # of the running mean by which divergence is noticed
_FIRST = 10  # steps before it can be


@dataclass(frozen=True)
class Ramp:
    """Losses of a training with a rising rate, smoothed, and what they suggest."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    base: float
    """Where the smoothed loss falls fastest over the logarithm of the rate."""
    maximum: float
    """Where it is lowest."""
    still_falling: bool
    """Whether it was lowest at the end, so that higher rates may be better still."""


def find_rate(
    values: Mapping[str, Any], out: Path, settings: RateSettings, *, overwrite: bool = False
) -> tuple[Tuning, Findings]:
    """Train with a rising rate in the folder ``out``, or go on with it.

    Raises UserError for a recipe that cannot be trained, an ``out`` that holds something else, and a loss that never falls.
    """
    check_recipe(parse_recipe(dict(values), "the recipe"), _GOAL)
    tuning = Tuning.begin(out, "lr", values, settings.to_dict(), may_change=["jobs"], overwrite=overwrite)
    with tuning.alone():
        trial = _trial(tuning, settings)
        before = trial.run.metrics.curve(_GOAL.metric)[1]
        if not trial(_Diverging(settings.stop, before)).done:
            raise KeyboardInterrupt
        trial.drop_checkpoints()
        losses = trial.run.metrics.curve(_GOAL.metric)[1]
        rates = trial.run.metrics.curve("learning_rate")[1]
        ramp = suggest(np.array(rates), np.array(losses), settings.smooth * settings.ramp_steps)
        write_findings(tuning, found := _findings(ramp, settings, tuning.recipe()))
    return tuning, found


def suggest(rates: NDArray[np.float64], losses: NDArray[np.float64], width: float) -> Ramp:
    """Base and maximum from the losses at rising rates, smoothed by a Gaussian of ``width`` steps.

    Raises UserError if the smoothed loss is lowest at the first rate.
    """
    smoothed = gaussian_filter1d(losses, width, mode="nearest") if len(losses) else losses
    lowest = int(np.argmin(smoothed)) if len(losses) > 1 else 0
    if lowest == 0:
        raise UserError(
            f"the loss does not fall at any of {len(rates)} rates from {rates.min(initial=math.inf):.2g} on; lower --low, or let "
            "the rate rise more slowly with --ramp-steps"
        )
    reached = np.minimum.accumulate(smoothed)  # coming back from a bump is no progress
    slopes = np.gradient(reached, np.log(rates))[: lowest + 1]
    steepest = int(np.argmin(slopes))
    still_falling = lowest >= len(losses) - 1 - width
    return Ramp(rates, losses, smoothed, float(rates[steepest]), float(rates[lowest]), bool(still_falling))


class _Diverging:
    """Ends the ramp where the running mean of the loss is ``stop`` times its lowest; ``losses`` are those of an earlier attempt."""

    def __init__(self, stop: float, losses: Sequence[float]) -> None:
        self._stop, self._mean, self._count, self._lowest = stop, 0.0, 0, math.inf
        for loss in losses:
            self._observe(loss)

    def __call__(self, step: int, row: Mapping[str, float | str]) -> str | None:
        loss = row.get(_GOAL.metric)
        return "the loss has risen again" if isinstance(loss, float) and self._observe(loss) else None

    def _observe(self, loss: float) -> bool:
        self._count += 1
        self._mean = _FADE * self._mean + (1 - _FADE) * loss
        mean = self._mean / (1 - _FADE**self._count)
        self._lowest = min(self._lowest, mean)
        return self._count > _FIRST and mean > self._stop * self._lowest


def _trial(tuning: Tuning, settings: RateSettings) -> Trial:
    steps = settings.ramp_steps
    schedule = {"kind": "ramp", "start": settings.low / settings.high, "shape": settings.ramp}
    fixed = {
        "trainer.steps": steps,
        "trainer.schedule": schedule,
        "trainer.log_every": 1,
        "trainer.checkpoint_every": steps,
        "trainer.keep_every": None,
        "trainer.early_stopping": None,
        "validation": None,
    }
    return Trial(tuning, _GOAL, "ramp", {RATE: settings.high}, fixed)


def winner(ramp: Ramp, recipe: Recipe) -> dict[str, Any]:
    """What to fill into the recipe: base and maximum if its schedule has both, the maximum for one cycle, else the base."""
    kind = recipe.trainer.schedule.kind
    if kind == "cyclical":
        return {RATE: ramp.maximum, "trainer.schedule.base": ramp.base / ramp.maximum}
    return {RATE: ramp.maximum if kind == "one_cycle" else ramp.base}


def _findings(ramp: Ramp, settings: RateSettings, recipe: Recipe) -> Findings:
    rows = [
        {"rate": float(rate), "loss": float(loss), "smoothed": float(smoothed)}
        for rate, loss, smoothed in zip(ramp.rates, ramp.losses, ramp.smoothed, strict=True)
    ]
    falling = "The loss still fell at the highest rate; raise --high to find the maximum."
    return Findings(
        title="Learning rate by the range finder",
        lead=f"One training of {len(rows)} steps whose rate rises from {settings.low:g} towards {settings.high:g}.",
        rows=rows,
        charts=[Chart("finder.png", _draw(ramp), "Training loss against the rate, as it was and smoothed.")],
        winner=winner(ramp, recipe),
        headlines=[
            Headline("base", f"{ramp.base:.3g}", "the loss falls fastest"),
            Headline("maximum", f"{ramp.maximum:.3g}", "the loss is lowest"),
            Headline("steps", str(len(rows)), f"of {settings.ramp_steps}"),
        ],
        remarks=[falling] if ramp.still_falling else [],
        order="as trained",
    )


def _draw(ramp: Ramp) -> bytes:
    with chart("learning rate", "training loss") as (axes, made):
        axes.plot(ramp.rates, ramp.losses, color=COLOURS[4], linewidth=0.6, alpha=0.6, label="loss")
        axes.plot(ramp.rates, ramp.smoothed, color=COLOURS[0], linewidth=1.5, label="smoothed")
        for colour, name, rate in ((COLOURS[2], "base", ramp.base), (COLOURS[1], "maximum", ramp.maximum)):
            axes.axvline(rate, color=colour, linewidth=1.2, linestyle="--", label=f"{name} {rate:.3g}")
        axes.set_xscale("log")
        low, high = ramp.smoothed.min(), ramp.smoothed[0]
        axes.set_ylim(low - 0.2 * (high - low), high + 0.5 * (high - low))
    return made[0]
