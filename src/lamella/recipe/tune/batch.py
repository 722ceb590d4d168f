"""Batch sizes: how fast each is, what memory it takes, and how well it learns in the same time or from as many samples.

Memory is measured on a few real steps of each size, in a process of its own. On a GPU sizes grow until one runs out of memory, and
the largest that fits is found between. On a CPU running out would harm whatever else runs, so the growth from size to size tells
when the next one would exceed the share of free memory that is allowed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.recipe.find import parse_recipe
from lamella.recipe.recipe import Recipe
from lamella.recipe.tune.batch_report import Learnt, find
from lamella.recipe.tune.crew import say
from lamella.recipe.tune.folder import Tuning
from lamella.recipe.tune.memory import Probe, free_memory, probe
from lamella.recipe.tune.rates import RATE
from lamella.recipe.tune.report import Findings, write_findings
from lamella.recipe.tune.settings import BatchSettings
from lamella.recipe.tune.trials import Trial, better, check_recipe, keep_best, tell
from lamella.train.config import accelerator

SIZE = "trainer.batch_size"
_VALIDATIONS = 5  # in a trial


@dataclass(frozen=True)
class Room:
    """How much a batch may take and what is known of it: the largest size that fits, and in words how that was found."""

    probes: list[Probe]
    allowed: int | None
    largest: int | None
    found: str


def tune_batch(
    values: Mapping[str, Any], out: Path, settings: BatchSettings, *, overwrite: bool = False
) -> tuple[Tuning, Findings]:
    """Measure and train every size in the folder ``out``, which may hold a part of it already.

    Raises UserError for a recipe that cannot be trained, an ``out`` that holds something else, and memory too small for any size.
    """
    recipe = parse_recipe(dict(values), "the recipe")
    check_recipe(recipe, settings)
    tuning = Tuning.begin(out, "batch", values, settings.to_dict(), overwrite=overwrite)
    with tuning.alone():
        room = _room(tuning, settings, accelerator(recipe.trainer)[0] == "cuda")
        trials = [_trial(tuning, recipe, settings, measured) for measured in room.probes]
        learnt: list[Learnt] = []
        for trial, measured in zip(trials, room.probes, strict=True):
            result = trial()
            if not result.done:
                raise KeyboardInterrupt
            learnt.append(Learnt(measured, result, trial.fixed["trainer.steps"]))
            best = better([one.result for one in learnt], settings)[0]
            tell(result, best, f"{len(learnt)}/{len(trials)}", settings)
            keep_best(trials, best)
        if not math.isfinite(best.value):
            raise UserError(f"no batch size gives a finite {settings.metric}; lower trainer.learning_rate")
        write_findings(tuning, found := find(learnt, best, settings, room.largest, room.allowed, room.found))
    return tuning, found


def measure_on_cpu(values: Mapping[str, Any], sizes: Sequence[int], share: float) -> Room:
    """Probe sizes upwards as long as the next is expected to stay within ``share`` of the memory that is free now."""
    allowed = int(share * free_memory())
    probes: list[Probe] = []
    for size in sizes:
        expected = expected_peak(probes, size)
        if expected > allowed:
            told = f"{size} would take {_gigabytes(expected)} of {_gigabytes(float(allowed))} that are allowed"
            return Room(probes, allowed, largest_within(probes, allowed), told)
        probes.append(_probe(values, size))
        if not probes[-1].fits:
            told = f"{size} was killed for its memory"
            return Room(probes[:-1], allowed, probes[-2].size if len(probes) > 1 else None, told)
    return Room(
        probes, allowed, largest_within(probes, allowed), "all sizes fit; the largest follows from their growth"
    )


def measure_on_gpu(values: Mapping[str, Any], sizes: Sequence[int]) -> Room:
    """Probe sizes upwards until one runs out of memory, then narrow down the largest that fits between it and the one before."""
    probes: list[Probe] = []
    for size in sizes:
        measured = _probe(values, size)
        if not measured.fits:
            fitting = probes[-1].size if probes else 0
            low, high = boundary(lambda n: _probe(values, n).fits, fitting, size)
            return Room(probes, None, low or None, f"{low} fits, {high} runs out of memory")
        probes.append(measured)
    return Room(probes, None, None, "all sizes fit")


def boundary(fits: Callable[[int], bool], low: int, high: int) -> tuple[int, int]:
    """Sizes of which the first fits and the second does not, a sixteenth apart or less, from two that are so.

    >>> boundary(lambda n: n <= 100, 64, 128)
    (100, 104)
    """
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low, high


def expected_peak(probes: Sequence[Probe], size: int) -> float:
    """The memory that ``size`` should take, from the growth between the last two sizes; from one size, in proportion."""
    if not probes:
        return 0.0
    last = probes[-1]
    if len(probes) == 1:
        return last.base + (last.peak - last.base) * size / last.size
    return last.peak + _slope(probes) * (size - last.size)


def largest_within(probes: Sequence[Probe], allowed: int) -> int | None:
    """The largest size whose expected peak is ``allowed``; None if memory did not grow, or there are not two sizes to tell."""
    if len(probes) < 2 or _slope(probes) == 0:
        return None
    return int(probes[-1].size + (allowed - probes[-1].peak) / _slope(probes))


def _slope(probes: Sequence[Probe]) -> float:
    before, last = probes[-2:]
    return max(0.0, (last.peak - before.peak) / (last.size - before.size))


def _room(tuning: Tuning, settings: BatchSettings, on_gpu: bool) -> Room:
    """What was measured, or was measured by an earlier attempt."""
    file = tuning.path / "probes.json"
    if not file.exists():
        values, sizes = tuning.recipe_values(), settings.batch_sizes
        room = measure_on_gpu(values, sizes) if on_gpu else measure_on_cpu(values, sizes, settings.memory)
        if not room.probes:
            raise UserError(
                f"not even batches of {sizes[0]} fit: {room.found}; make data.crop or the net smaller, or --sizes"
            )
        write_json(file, asdict(room))
    stored = json.loads(file.read_text())
    return Room(**{**stored, "probes": [Probe(**one) for one in stored["probes"]]})


def _probe(values: Mapping[str, Any], size: int) -> Probe:
    measured = probe(values, size)
    told = f"{_gigabytes(float(measured.peak))}, {measured.rate:.3g} samples/s" if measured.fits else "does not fit"
    say(f"batches of {size}: {told}")
    return measured


def _trial(tuning: Tuning, recipe: Recipe, settings: BatchSettings, measured: Probe) -> Trial:
    each = {"seconds": measured.seconds, "cpu_seconds": measured.cpu_seconds, "samples": measured.size}[settings.by]
    steps = max(1, round(settings.budget / each))
    power = {"fixed": 0.0, "sqrt": 0.5, "linear": 1.0}[settings.rate]
    changes: dict[str, Any] = {SIZE: measured.size}
    if power:
        changes[RATE] = recipe.trainer.learning_rate * (measured.size / recipe.trainer.batch_size) ** power
    fixed = {
        "trainer.steps": steps,
        "trainer.validate_every": max(1, steps // _VALIDATIONS),
        "trainer.checkpoint_every": min(recipe.trainer.checkpoint_every, steps),
        "trainer.keep_every": None,
    }
    return Trial(tuning, settings, f"batch{measured.size:05d}", changes, fixed)


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.3g} GB"
