"""The search: what ranges mean, that several workers share one study, and that stopped and killed trials go on."""

import csv
import dataclasses
import json
from itertools import pairwise

import pytest

from lamella.core.errors import UserError
from lamella.recipe.find import load_recipe
from lamella.recipe.tune.search import Reporter, Search, search, work
from lamella.recipe.tune.settings import SearchSettings
from lamella.recipe.tune.space import changes, split
from lamella.recipe.tune.study import Study
from lamella.recipe.tune.trials import Trial
from lamella.runs.folder import list_runs

RANGES, _ = split(["trainer.learning_rate=log(1e-4,1e-2)", "trainer.optimiser.kind=choice(adam,adamw)"])
SETTINGS = SearchSettings(trials=3, sampler="random", pruner="none")


@pytest.fixture(scope="module")
def searched(values, tmp_path_factory):
    """A search by one process without interruption: (its folder, what it found)."""
    return search(values, RANGES, tmp_path_factory.mktemp("searched") / "out", SETTINGS)


def rows(tuning):
    with (tuning.path / "trials.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_words_become_ranges_and_changes():
    words = ["a=log(1e-5,1e-2)", "b.c=int(2,6)", "d=choice(x, 3, [1, 2], {k: v})", "trainer.steps=9", "e=logint(4,64)"]
    ranges, plain = split(words)
    assert plain == ["trainer.steps=9"]
    assert [r.key for r in ranges] == ["a", "b.c", "d", "e"]
    assert [r.corners() for r in ranges] == [(1e-5, 1e-2), (2, 6), ("x", 3, [1, 2], {"k": "v"}), (4, 64)]
    drawn = {"a": 0.1, "b.c": 3, "d": json.dumps({"k": "v"}), "e": 8}
    assert changes(ranges, drawn) == {"a": 0.1, "b.c": 3, "d": {"k": "v"}, "e": 8}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.steps=9"], "nothing to search"),
        (["a=log(0,1)"], "above 0"),
        (["a=uniform(2,1)"], "first number must be lower"),
        (["a=int(1,2.5)"], "whole numbers"),
        (["a=choice(1)"], "leaves no choice"),
        (["a=uniform(1)"], "needs two numbers"),
        (["a=int(1,2)", "a=int(3,4)"], "two ranges"),
    ],
)
def test_ranges_that_cannot_be_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        split(words)


def test_values_that_no_recipe_takes_are_refused_before_anything_is_written(values, tmp_path):
    for word, message in [
        ("trainer.lerning_rate=log(1,2)", "did you mean 'learning_rate'"),
        ("trainer.batch_size=int(0,4)", "batch_size"),
        ("trainer.optimiser.kind=choice(adam,sgd)", "sgd"),
    ]:
        with pytest.raises(UserError, match=message):
            search(values, split([word])[0], tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()


def test_the_best_trial_is_filled_in_and_keeps_its_checkpoints(searched):
    tuning, found = searched
    table = rows(tuning)
    scores = [float(row["val/total"]) for row in table]
    assert len(table) == 3
    assert all(a <= b for a, b in pairwise(scores))
    best = load_recipe(tuning.path / "best.yaml").trainer
    assert best.learning_rate == pytest.approx(float(table[0]["trainer.learning_rate"]), rel=1e-4)
    assert best.optimiser.kind == table[0]["trainer.optimiser.kind"]
    assert [run.name for run in list_runs(tuning.trials) if run.checkpoints()] == [table[0]["trial"]]
    assert all((tuning.path / chart.file).read_bytes().startswith(b"\x89PNG") for chart in found.charts)


def test_several_workers_share_one_study(searched, values, tmp_path):
    tuning, _ = search(values, RANGES, tmp_path / "out", SETTINGS.model_copy(update={"jobs": 2}))
    assert rows(tuning) == rows(searched[0])  # drawn by number, each number once


def test_stopped_and_killed_trials_go_on(searched, values, tmp_path):
    tuning, _ = search(values, RANGES, tmp_path / "out", SETTINGS.model_copy(update={"trials": 1}))
    job = Search(tuning, SETTINGS, tuple(RANGES))
    study = job.study()
    stopped = study.claim()
    trial = Trial(tuning, SETTINGS, stopped.name, changes(RANGES, stopped.trial.params), {})
    assert not trial(lambda step, row: "interrupted" if step == 3 else None).done
    study.leave(stopped)
    killed = study.claim()
    assert killed.name == "0001"  # the same again
    assert study.claim().name == "0002"  # while that one is at work
    killed.lock.release()  # as the system does when its process dies; so it does with the other, which nobody holds
    assert work(job)
    assert study.trials()[1].user_attrs["attempts"] == 1
    assert trial.run.provenance()["resumed"][0]["step"] == 3
    search(values, RANGES, tmp_path / "out", SETTINGS)
    assert rows(tuning) == rows(searched[0])


def test_a_trial_that_is_killed_again_and_again_has_failed(values, tmp_path):
    settings = SETTINGS.model_copy(update={"trials": 2, "retries": 1})
    tuning, _ = search(values, RANGES, tmp_path / "out", settings.model_copy(update={"trials": 1}))
    study = Search(tuning, settings, tuple(RANGES)).study()
    for _ in range(2):
        study.claim().lock.release()
    assert study.claim() is None
    assert study.trials()[1].state.name == "FAIL"


class _Claim:
    def __init__(self, trial, reported=()):
        self.trial, self.reported = trial, frozenset(reported)


def test_trials_worse_than_the_median_end_early():
    import optuna

    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    study = optuna.create_study(pruner=pruner)
    for value in (1.0, 3.0):
        trial = study.ask()
        report = Reporter(_Claim(trial), "val/total")
        told = [report(step, {"val/total": value, "train/total": 9.0}) for step in (10, 20)]
        assert report(25, {"train/total": 9.0}) is None
        study.tell(trial, value)
    assert told == ["pruned at step 10", "pruned at step 20"]


def test_a_search_of_which_every_trial_fails_says_why(values, tmp_path):
    too_large, _ = split(["data.crop=int(900,940)"])
    with pytest.raises(UserError, match=r"all of the first 3 trials failed, the last one because: .*lower data\.crop"):
        search(values, too_large, tmp_path / "out", SETTINGS)


def test_a_trial_that_ends_while_another_process_looks_at_it_is_left_alone(searched, tmp_path, monkeypatch):
    tuning = dataclasses.replace(searched[0], path=tmp_path)
    tuning.trials.mkdir()
    one, other = (Study(tuning, SETTINGS, RANGES, steps=4) for _ in range(2))
    claim = one.claim()
    stale = other.trials()  # here it still runs
    one.finish(claim, 0.5, "finished")
    looks = iter([stale])
    fresh = other.trials
    monkeypatch.setattr(other, "trials", lambda: next(looks, None) or fresh())
    taken = other.claim()
    assert taken is not None
    assert taken.trial.number == claim.trial.number + 1
