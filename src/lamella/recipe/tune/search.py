"""The search over any keys of a recipe, by as many processes on as many machines as take part."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.core.errors import UserError
from lamella.recipe.find import parse_recipe
from lamella.recipe.tune.crew import abandoned, each, say
from lamella.recipe.tune.folder import Tuning, assignment, changed
from lamella.recipe.tune.report import Findings, write_findings
from lamella.recipe.tune.settings import SearchSettings
from lamella.recipe.tune.space import Range, changes
from lamella.recipe.tune.trials import NoSuchMetric, Trial, check_recipe
from lamella.runs.metrics import Metrics

if TYPE_CHECKING:
    from lamella.recipe.tune.study import Claim, Study

_PRUNED = "pruned"
_WRITE_EVERY = 20.0  # seconds between tables and charts while the search goes on
_HOPELESS = 3  # trials that fail, with none that does not


@dataclass(frozen=True)
class Search:
    """What every process of a search is told."""

    tuning: Tuning
    settings: SearchSettings
    ranges: tuple[Range, ...]

    def study(self) -> Study:
        from lamella.recipe.tune.study import Study

        return Study(self.tuning, self.settings, self.ranges, self.tuning.recipe().trainer.steps)


def search(
    values: Mapping[str, Any],
    ranges: Sequence[Range],
    out: Path,
    settings: SearchSettings,
    *,
    overwrite: bool = False,
) -> tuple[Tuning, Findings]:
    """Search in the folder ``out``, alone or beside others that were given the same.

    Raises UserError for a recipe or ranges that cannot be trained, an ``out`` that holds something else, and a search in which every
    trial fails.
    """
    _check_optuna()
    check_recipe(parse_recipe(dict(values), "the recipe"), settings)
    _check_ranges(values, ranges)
    asked = {**settings.to_dict(), "ranges": {r.key: _written(r) for r in ranges}}
    may_change = ["trials", "retries", "jobs"]
    tuning = Tuning.begin(out, "search", values, asked, may_change=may_change, overwrite=overwrite)
    job = Search(tuning, settings, tuple(ranges))
    for finished in each(work, [job] * settings.jobs, settings.jobs, tuning.path / "log.txt"):
        if not finished:
            raise KeyboardInterrupt
    return tuning, write_search(job, job.study())


def work(job: Search) -> bool:
    """Take trials from the study until there are none left; whether that is why it ended, and not an interruption."""
    study, written = job.study(), time.monotonic()
    while (claim := study.claim()) is not None:
        if abandoned() or not _work_on(job, study, claim):
            study.leave(claim)
            return False
        if time.monotonic() - written > _WRITE_EVERY and study.best() is not None:
            write_search(job, study)
            written = time.monotonic()
    return True


def _work_on(job: Search, study: Study, claim: Claim) -> bool:
    """Train one trial and note what came of it; False if it was interrupted."""
    import torch

    trial = Trial(job.tuning, job.settings, claim.name, changes(job.ranges, claim.trial.params), {})
    reporter = Reporter(claim, job.settings.metric)
    reporter.catch_up(trial.run.metrics)
    try:
        result = trial(reporter)
    except NoSuchMetric:
        study.finish(claim, math.nan, "failed: no such metric", failed=True)
        raise
    except (UserError, torch.OutOfMemoryError) as error:
        study.finish(claim, math.nan, f"failed: {str(error).partition('.')[0]}", failed=True)
        _refuse_hopeless(study, error)
    else:
        if not result.done:
            return False
        study.finish(claim, result.value, result.outcome, pruned=result.outcome.startswith(_PRUNED))
    _drop_losers(job, study)
    _tell(job, study, claim)
    return True


class Reporter:
    """Reports every score of a trial to the study, which may say that the trial is not worth its time."""

    def __init__(self, claim: Claim, metric: str) -> None:
        self._claim, self._metric, self._reported = claim, metric, set(claim.reported)

    def catch_up(self, metrics: Metrics) -> None:
        """Report what an earlier attempt measured and did not come to report."""
        for step, value in zip(*metrics.curve(self._metric), strict=True):
            self._report(int(step), value)

    def __call__(self, step: int, row: Mapping[str, float | str]) -> str | None:
        value = row.get(self._metric)
        if not isinstance(value, float):
            return None
        self._report(step, value)
        return f"{_PRUNED} at step {step}" if self._claim.trial.should_prune() else None

    def _report(self, step: int, value: float) -> None:
        if step not in self._reported:
            self._reported.add(step)
            self._claim.trial.report(value, step)


def _drop_losers(job: Search, study: Study) -> None:
    """Keep the checkpoints of the best trial only."""
    from lamella.recipe.tune.study import trial_name

    best = study.best()
    for trial in study.trials():
        if trial.state.is_finished() and (best is None or trial.number != best.number):
            Trial(job.tuning, job.settings, trial_name(trial.number), {}, {}).drop_checkpoints()


def _tell(job: Search, study: Study, claim: Claim) -> None:
    from lamella.recipe.tune.study import outcome, trial_name

    trials, best = study.trials(), study.best()
    ended = trials[claim.trial.number]
    value = f"{job.settings.metric} {ended.value:.4g}, " if ended.value is not None else ""
    tried = " ".join(assignment(k, v) for k, v in changes(job.ranges, ended.params).items())
    done = sum(trial.state.is_finished() for trial in trials)
    leading = f"; best {best.value:.4g} by {trial_name(best.number)}" if best else ""
    say(f"trial {claim.name} ({done}/{job.settings.trials}): {value}{outcome(ended)}, with {tried}{leading}")


def _refuse_hopeless(study: Study, error: Exception) -> None:
    trials = [trial for trial in study.trials() if trial.state.is_finished()]
    if len(trials) >= _HOPELESS and all(trial.state.name == "FAIL" for trial in trials):
        raise UserError(f"all of the first {len(trials)} trials failed, the last one because: {error}") from error


def write_search(job: Search, study: Study) -> Findings:
    """Write table, charts, page and best recipe of what is known so far."""
    from lamella.recipe.tune.search_report import find

    if study.best() is None:
        raise UserError(
            f"none of {len(study.trials())} trials reached its end with a finite {job.settings.metric}; narrow the ranges, or "
            "search on with more --trials"
        )
    found = find(job, study)
    write_findings(job.tuning, found)
    return found


def _check_ranges(values: Mapping[str, Any], ranges: Sequence[Range]) -> None:
    """Refuse keys that no recipe has and values that it does not take."""
    for each_range in ranges:
        for corner in each_range.corners():
            parse_recipe(changed(values, {each_range.key: corner}), assignment(each_range.key, corner))


def _written(tried: Range) -> str:
    inside = tried.choices if tried.kind == "choice" else tried.corners()
    return f"{tried.kind}({', '.join(map(str, inside))})"


def _check_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError("lamella tune search needs Optuna; install it with: pip install 'lamella[tune]'") from None
