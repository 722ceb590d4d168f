"""The study of a search: which values were tried and what they gave, in a journal that several processes and machines share.

Optuna proposes values and decides which trials to end early; everything it knows is in ``OUT/study.log``. A lock for each trial,
``OUT/trials/.NAME.lock``, tells a trial that runs from one whose process was killed: the system drops the locks of the dead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from lamella.core.rng import stream
from lamella.recipe.tune.folder import Tuning
from lamella.recipe.tune.settings import SearchSettings
from lamella.recipe.tune.space import Range

_NAME = "lamella"
_OUTCOME, _ATTEMPTS = "outcome", "attempts"
_RANDOM_FIRST = 10  # trials before the sampler learns from them

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Claim:
    """A trial that this process may work on until it lets go of its lock."""

    trial: optuna.Trial
    lock: FileLock
    reported: frozenset[int] = frozenset()
    """Steps whose scores an earlier attempt has reported."""

    @property
    def name(self) -> str:
        return trial_name(self.trial.number)


class Study:
    """The study in a tuning's folder, made if it is not there."""

    def __init__(self, tuning: Tuning, settings: SearchSettings, ranges: Sequence[Range], steps: int) -> None:
        self._tuning, self._settings = tuning, settings
        self._distributions = {r.key: r.distribution() for r in ranges}
        path = str(tuning.path / "study.log")
        storage = JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
        with self.locked():
            self._study = optuna.create_study(
                storage=storage,
                study_name=_NAME,
                load_if_exists=True,
                direction="minimize" if settings.mode == "min" else "maximize",
                pruner=_pruner(settings, steps),
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from asking while this process does."""
        with FileLock(self._tuning.path / ".study.lock"):
            yield

    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def best(self) -> FrozenTrial | None:
        """The best of the trials that went to their end; None if none has."""
        complete = [t for t in self.trials() if t.state == TrialState.COMPLETE]
        return self._study.best_trial if complete else None

    def claim(self) -> Claim | None:
        """A trial to work on: one whose process was killed, or a new one; None if all are done or in work."""
        with self.locked():
            for trial in self.trials():
                if trial.state == TrialState.RUNNING and (found := self._take_up(trial)):
                    return found
            if len(self.trials()) >= self._settings.trials:
                return None
            number = len(self.trials())
            lock = self._lock(number)
            lock.acquire(timeout=0)
            self._study.sampler = self._sampler(number)
            return Claim(self._study.ask(self._distributions), lock)

    def finish(self, claim: Claim, value: float, outcome: str, *, pruned: bool = False, failed: bool = False) -> None:
        """Note how a trial ended, and let go of it. One without a finite value counts as ended early, so that its like is avoided."""
        claim.trial.set_user_attr(_OUTCOME, outcome)
        if failed:
            self._study.tell(claim.trial, state=TrialState.FAIL)
        elif pruned or not math.isfinite(value):
            self._study.tell(claim.trial, state=TrialState.PRUNED)
        else:
            self._study.tell(claim.trial, value)
        claim.lock.release()

    def leave(self, claim: Claim) -> None:
        """Let go of a trial that was interrupted, for someone to take up again; that counts as no attempt."""
        claim.trial.set_user_attr(_ATTEMPTS, claim.trial.user_attrs.get(_ATTEMPTS, 0) - 1)
        claim.lock.release()

    def importances(self) -> dict[str, float]:
        """How much each key decides, between 0 and 1 (PED-ANOVA, Watanabe et al. 2023); empty if too few trials are complete."""
        complete = [t for t in self.trials() if t.state == TrialState.COMPLETE]
        if len(complete) < 4 or len(self._distributions) < 2 or len({t.value for t in complete}) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(self._study, evaluator=evaluator)

    def _take_up(self, trial: FrozenTrial) -> Claim | None:
        """A trial that runs nowhere any more, if it may be tried again; else it has failed."""
        lock = self._lock(trial.number)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        if self.trials()[trial.number].state != TrialState.RUNNING:  # ended while it was looked at
            lock.release()
            return None
        self._study.sampler = optuna.samplers.RandomSampler()
        reported = frozenset(trial.intermediate_values)
        claim = Claim(optuna.Trial(self._study, trial._trial_id), lock, reported)
        attempts = trial.user_attrs.get(_ATTEMPTS, 0) + 1
        if attempts > self._settings.retries:
            self.finish(claim, math.nan, f"failed: killed {attempts} times", failed=True)
            return None
        claim.trial.set_user_attr(_ATTEMPTS, attempts)
        return claim

    def _lock(self, number: int) -> FileLock:
        return FileLock(self._tuning.trials / f".{trial_name(number)}.lock")

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """One for each trial, so that what is drawn depends on the trials before and not on who ran them."""
        seed = int(stream(self._settings.seed, "sampler", number).integers(2**31))
        if self._settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        others = any(t.state == TrialState.RUNNING for t in self.trials())
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=_RANDOM_FIRST, multivariate=True, constant_liar=others
        )


def trial_name(number: int) -> str:
    """The name of a trial's run.

    >>> trial_name(7)
    '0007'
    """
    return f"{number:04d}"


def outcome(trial: FrozenTrial) -> str:
    """How a trial ended, in words."""
    return str(trial.user_attrs.get(_OUTCOME, trial.state.name.lower()))


def _pruner(settings: SearchSettings, steps: int) -> optuna.pruners.BasePruner:
    if settings.pruner == "none":
        return optuna.pruners.NopPruner()
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, steps // 27), max_resource=steps)
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=steps // 10)
