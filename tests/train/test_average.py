"""Averaged weights: what they are, who sees them, and that a resumed run has the same."""

from functools import partial
from signal import SIGTERM

import pytest
import torch
from torch import nn

from lamella.train.average import Average, AverageConfig
from lamella.train.checkpoints import read_checkpoint, weights
from tests.train.noise import Noise
from tests.train.toy import Blur, Interrupted, same, state, train

EMA = {"average": {"decay": 0.9}}


def test_the_average_follows_its_formula():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 0.0)
    average = Average(net, AverageConfig(decay=0.5))
    expected = 0.0
    for step, value in enumerate([1.0, 3.0, 2.0, 5.0, 4.0, 0.0, 7.0, 1.0, 2.0, 6.0], start=1):
        nn.init.constant_(net.weight, value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        with average.shown():
            assert net.weight.item() == pytest.approx(expected)
        assert net.weight.item() == value


def test_running_statistics_are_averaged_and_counts_are_not():
    net = nn.BatchNorm1d(1)
    average = Average(net, AverageConfig(decay=0.5))
    with torch.no_grad():
        net.running_mean += 8
        net.num_batches_tracked += 3
    average.update(100)
    kept = average.state_dict()
    assert kept.keys() == net.state_dict().keys()
    assert (kept["running_mean"].item(), kept["num_batches_tracked"].item()) == (4, 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    _, run, toy = train(tmp_path_factory.mktemp("whole"), "whole", **EMA)
    return run, state(toy)


def test_averaging_leaves_the_training_as_it_is(tmp_path):
    _, plain, toy = train(tmp_path, "plain", schedule={"kind": "constant"})
    _, averaged, other = train(tmp_path, "averaged", schedule={"kind": "constant"}, **EMA)
    assert same(state(toy), state(other))
    assert plain.metrics.curve("train/total") == averaged.metrics.curve("train/total")
    assert plain.metrics.curve("val/total") != averaged.metrics.curve("val/total")


def test_validation_and_loading_see_the_average(whole):
    run, final = whole
    checkpoint = read_checkpoint(run.checkpoint("last"))
    assert same(weights(checkpoint, average=False), final)
    assert not same(weights(checkpoint), final)
    task = Blur()
    task.net.load_state_dict(weights(checkpoint))
    task.net.eval()
    held_out = [Noise(first=10_000)[i] for i in range(3)]
    with torch.no_grad():
        scores = [task.loss(sample[None], 0)["total"].item() for sample in held_out]
    assert run.metrics.curve("val/total")[1][-1] == pytest.approx(sum(scores) / 3, rel=1e-5)


def test_a_resumed_run_has_the_same_average(whole, tmp_path):
    run, final = whole
    train(tmp_path, "stopped", partial(Interrupted, 17, SIGTERM), **EMA)
    _, resumed, toy = train(tmp_path, "stopped", resume=True, **EMA)
    assert same(state(toy), final)
    for name in ("last", "best"):
        assert same(*(weights(read_checkpoint(r.checkpoint(name))) for r in (run, resumed)))
