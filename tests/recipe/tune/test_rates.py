"""The staged search and the range finder: what is drawn, what wins, what is left behind, and that a stopped one goes on."""

import csv

import numpy as np
import pytest

from lamella.core.errors import UserError
from lamella.recipe.find import load_recipe
from lamella.recipe.tune import rates
from lamella.recipe.tune.finder import _Diverging, find_rate, suggest, winner
from lamella.recipe.tune.folder import Tuning
from lamella.recipe.tune.rates import stage_rates, stage_trials, tune_rate
from lamella.recipe.tune.settings import RateSettings
from lamella.recipe.tune.trials import Result
from lamella.runs.folder import list_runs

SMALL = RateSettings(counts="2,1", steps="2,3", spans="0.5", low=1e-4, high=1e-1)


@pytest.fixture(scope="module")
def tuned(values, tmp_path_factory):
    """A search in two stages: (its folder, what it found)."""
    return tune_rate(values, tmp_path_factory.mktemp("tuned") / "out", SMALL)


def table(tuning: Tuning) -> list[dict[str, str]]:
    with (tuning.path / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_rates_are_log_uniform_between_the_ends():
    drawn = np.log10(stage_rates(RateSettings(counts="2000,1,1"), 0, None))
    assert (drawn.min(), drawn.max()) == (pytest.approx(-6, abs=0.01), pytest.approx(-1, abs=0.01))
    assert np.histogram(drawn, 5, (-6, -1))[0] == pytest.approx(400, rel=0.15)


def test_a_later_stage_stays_around_the_best_of_the_one_before():
    settings = RateSettings(counts="1,500,500")
    for stage, span in ((1, 1.0), (2, 0.1)):
        drawn = np.log10(stage_rates(settings, stage, 1e-3)) + 3
        assert (drawn.min(), drawn.max()) == (pytest.approx(-span, rel=0.05), pytest.approx(span, rel=0.05))


def test_the_winner_is_the_best_of_the_last_stage_though_an_earlier_was_better(tuned):
    tuning, _ = tuned
    stages = [
        [Result(n, {rates.RATE: r}, v, 1, "finished", 1.0, 1.0)] for n, r, v in (("a", 1e-2, 0.1), ("b", 1e-4, 0.5))
    ]
    assert rates._findings(stages, SMALL).winner == {rates.RATE: 1e-4}
    rows = [row for row in table(tuning) if row["stage"] == "2"]
    best = min(rows, key=lambda row: float(row["val/total"]))
    assert load_recipe(tuning.path / "best.yaml").trainer.learning_rate == pytest.approx(
        float(best[rates.RATE]), rel=1e-4
    )


def test_only_the_winner_keeps_its_checkpoints(tuned):
    tuning, found = tuned
    kept = {run.name for run in list_runs(tuning.trials) if run.checkpoints()}
    assert kept == {found.rows[0]["trial"]}
    assert len(list_runs(tuning.trials)) == 3
    assert "<html" in (tuning.path / "report.html").read_text()


def test_a_search_that_was_stopped_goes_on_to_the_same_end(tuned, values, tmp_path):
    whole, _ = tuned
    tuning = Tuning.begin(tmp_path / "out", "lr", values, SMALL.to_dict())
    first, second = stage_trials(tuning, SMALL, 0, None)[:2]
    assert first().done
    assert not second(lambda step, row: "interrupted" if step == 1 else None).done  # as Ctrl-C ends it
    tune_rate(values, tmp_path / "out", SMALL)
    assert second.run.provenance()["resumed"][0]["step"] == 1

    def timeless(rows):
        return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]

    assert timeless(table(tuning)) == timeless(table(whole))


def test_another_tuning_is_not_mixed_in(tuned, values):
    tuning, _ = tuned
    with pytest.raises(UserError, match=r"settings\.low was 0\.0001, is 1e-05"):
        tune_rate(values, tuning.path, SMALL.model_copy(update={"low": 1e-5}))
    with pytest.raises(UserError, match=r"recipe\.seed"):
        tune_rate({**values, "seed": 3}, tuning.path, SMALL)
    with pytest.raises(UserError, match="holds no tuning"):
        tune_rate(values, tuning.path / "trials", SMALL)


def test_mistakes_are_told_before_anything_is_written(values, tmp_path):
    for changes, message in [
        ({"low": 1, "high": 0.1}, "low 1 must be below high 0.1"),
        ({"counts": "3,2"}, "do not fit"),
        ({"counts": "a"}, "numbers with commas"),
    ]:
        with pytest.raises(UserError, match=message):
            RateSettings.load(changes)
    unheld = {key: value for key, value in values.items() if key != "validation"}
    with pytest.raises(UserError, match="no 'validation'"):
        tune_rate(unheld, tmp_path / "out", SMALL)
    with pytest.raises(UserError, match="one device each"):
        tune_rate({**values, "trainer": {"device": "cuda:0,1"}}, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_the_finder_names_the_steepest_and_the_lowest():
    rates_ = np.logspace(-5, 0, 200)
    x = np.log10(rates_)
    losses = 1 - 0.8 / (1 + np.exp(-8 * (x + 3))) + np.exp(6 * (x + 0.8))  # falls around 1e-3, rises around 10^-0.8
    ramp = suggest(rates_, losses, 3.0)
    assert np.log10(ramp.base) == pytest.approx(-3, abs=0.1)
    assert np.log10(ramp.maximum) == pytest.approx(np.log10(rates_[np.argmin(losses)]), abs=0.1)
    assert not ramp.still_falling
    assert suggest(rates_[:115], losses[:115], 3.0).still_falling


def test_coming_back_from_a_bump_is_no_progress():
    x = np.linspace(-5, -1, 200)
    losses = 1 - 0.5 / (1 + np.exp(-8 * (x + 2))) + 3 * np.exp(-(((x + 3.5) / 0.1) ** 2))
    assert np.log10(suggest(10**x, losses, 2.0).base) == pytest.approx(-2, abs=0.15)


def test_a_loss_that_only_rises_is_refused():
    with pytest.raises(UserError, match="does not fall at any of 50 rates"):
        suggest(np.logspace(-3, 0, 50), np.linspace(1, 2, 50), 2.0)


def test_the_ramp_ends_where_the_loss_has_risen():
    judge = _Diverging(4.0, [])
    told = [judge(step, {"train/total": loss}) for step, loss in enumerate([1.0] * 30 + [50.0] * 3)]
    assert not any(told[:30])
    assert told[30]
    assert _Diverging(4.0, [1.0] * 30)(31, {"train/total": 50.0})  # as after a stop


def test_the_finder_fills_in_base_and_maximum(values, tmp_path):
    schedule = {"schedule": {"kind": "cyclical", "step_size": 5}}
    cyclical = {**values, "trainer": {**values["trainer"], **schedule}}
    settings = RateSettings(finder=True, ramp_steps=40, low=1e-3, high=0.3, smooth=0.05)
    tuning, found = find_rate(cyclical, tmp_path / "out", settings)
    base, maximum = (float(figure.value) for figure in found.headlines[:2])
    trainer = load_recipe(tuning.path / "best.yaml").trainer
    assert trainer.learning_rate == pytest.approx(maximum, rel=0.01)
    assert trainer.learning_rate * trainer.schedule.base == pytest.approx(base, rel=0.01)
    assert trainer.steps == 4  # the recipe's own, not the ramp's
    assert len(table(tuning)) == len(found.rows) > 10
    ramp = suggest(np.array([0.1, 0.2, 0.4]), np.array([3.0, 2.0, 1.0]), 0.1)
    assert winner(ramp, tuning.recipe({"trainer.schedule": {"kind": "constant"}})) == {rates.RATE: ramp.base}
    assert winner(ramp, tuning.recipe({"trainer.schedule": {"kind": "one_cycle"}})) == {rates.RATE: 0.4}
