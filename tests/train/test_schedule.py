import pytest

from lamella.train.monitor import Follower, Monitor
from lamella.train.schedule import Constant, Cosine, Plateau


def test_constant_rises_and_stays():
    schedule = Constant(warmup=3).build(10)
    assert [schedule.factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_cosine_falls_from_one_over_the_middle_to_the_end():
    schedule = Cosine(warmup=10, final=0.2).build(110)
    assert schedule.factor(0) == pytest.approx(1 / 11)
    assert schedule.factor(10) == 1
    assert schedule.factor(60) == pytest.approx(0.6)
    assert schedule.factor(110) == pytest.approx(0.2)
    assert schedule.factor(10_000) == pytest.approx(0.2)


def test_plateau_halves_after_patience_and_remembers():
    config = Plateau(patience=2, least=0.3)
    schedule = config.build(100)
    factors = []
    for value in [3.0, 2.0, 2.5, 2.0, 1.0, 1.5, 1.5, 1.5, 1.5]:
        schedule.observe({"val/total": value})
        schedule.observe({"train/total": 0.0})  # another metric says nothing
        again = config.build(100)
        again.load_state_dict(schedule.state_dict())
        schedule = again
        factors.append(schedule.factor(0))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    ("mode", "expected"), [("min", [True, True, False, False]), ("max", [True, False, False, True])]
)
def test_follower_takes_small_changes_for_none(mode, expected):
    follower = Follower(Monitor(metric="score", mode=mode, min_change=0.5))
    assert [follower.observe({"score": value}) for value in (5.0, 4.0, 4.2, 6.0)] == expected
    assert follower.observe({}) is None
    assert follower.observe({"score": float("nan")}) is False
