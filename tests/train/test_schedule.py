import pytest
import torch

from lamella.train.monitor import Follower, Monitor
from lamella.train.schedule import Constant, Cosine, Cyclical, OneCycle, Plateau, Ramp


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


def test_cyclical_rises_and_falls_as_worked_out_by_hand():
    schedule = Cyclical(step_size=4, base=0.2, gamma=0.5).build(100)
    # cycle 1 has the height 0.8 * 0.5, cycle 2 half of it
    assert [schedule.factor(step) for step in (0, 1, 2, 4, 6, 8)] == pytest.approx([0.2, 0.3, 0.4, 0.6, 0.4, 0.2])
    assert [schedule.factor(step) for step in (10, 12, 15, 16)] == pytest.approx([0.3, 0.4, 0.25, 0.2])
    assert [step for step in range(20) if schedule.may_end(step)] == [0, 8, 16]


def follow(torch_schedule, optimiser, steps):
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        torch_schedule.step()
    return rates


def test_cyclical_with_decay_by_step_is_that_of_pytorch():
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    theirs = torch.optim.lr_scheduler.CyclicLR(
        optimiser, 0.1, 0.6, 5, mode="exp_range", gamma=0.9, cycle_momentum=False
    )
    ours = Cyclical(step_size=5, base=1 / 6, gamma=0.9, per="step").build(40)
    assert [0.6 * ours.factor(step) for step in range(40)] == pytest.approx(follow(theirs, optimiser, 40))


def test_one_cycle_is_that_of_pytorch():
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.5, total_steps=41, cycle_momentum=False)
    ours = OneCycle().build(41)
    assert [0.5 * ours.factor(step) for step in range(40)] == pytest.approx(follow(theirs, optimiser, 40))


def test_ramps_go_from_the_start_to_the_rate():
    exponential, linear = Ramp(start=1e-4).build(5), Ramp(start=0.2, shape="linear").build(5)
    assert [exponential.factor(step) for step in range(5)] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert [linear.factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
