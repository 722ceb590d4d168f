"""The net's graph in TensorBoard, judges, and several best checkpoints: what a run writes beside its weights."""

from functools import partial

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from lamella.runs import RunFolder
from lamella.train.checkpoints import read_checkpoint
from lamella.train.steps import Diverged
from tests.train.toy import Blur, same, state, train


def graph_nodes(run: RunFolder) -> set[str]:
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    return {node.op for node in events.Graph().node} if events.Tags()["graph"] else set()


class Odd(Blur):
    """Calls its net by parts, so there is nothing to trace."""

    def loss(self, sample: Tensor, step: int) -> dict[str, Tensor]:
        out = sample
        for layer in self.net:
            out = layer(out)
        return {"total": out.square().mean(), "absolute": out.abs().mean()}


class Untraceable(Blur):
    """A net whose output has no tensor in it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Strange(self.net)

    def loss(self, sample: Tensor, step: int) -> dict[str, Tensor]:
        (out,) = self.net(sample)
        return {"total": out.square().mean(), "absolute": out.abs().mean()}


class Strange(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> set[Tensor]:
        return {self.net(x)}


@pytest.mark.parametrize("compiled", [False, True])
def test_the_graph_is_in_tensorboard(tmp_path, compiled):
    _, run, _ = train(tmp_path, "drawn", steps=2, compile=compiled)
    assert "aten::_convolution" in graph_nodes(run)
    assert not [warning for warning in run.provenance()["warnings"] if warning["step"] == 0]


@pytest.mark.parametrize(("task", "reason"), [(Odd, "parts of the net only"), (Untraceable, "cannot infer type")])
def test_a_net_without_a_graph_is_trained_and_told(tmp_path, capsys, task, reason):
    outcome, run, _ = train(tmp_path, "untraced", task, steps=4, panels_every=0)
    assert outcome.reason == "finished"
    assert not graph_nodes(run)
    assert reason in run.provenance()["warnings"][0]["message"]
    assert reason in capsys.readouterr().err


def test_drawing_changes_nothing(tmp_path):
    _, _, drawn = train(tmp_path, "drawn", steps=4)
    _, plain, toy = train(tmp_path, "plain", steps=4, graph=False)
    assert same(state(drawn), state(toy))
    assert not graph_nodes(plain)


class Scored(Blur):
    """Gives a second score that goes up and down."""

    def validate(self, sample: Tensor) -> dict[str, Tensor]:
        scores = self.loss(sample, 0)
        return {**scores, "fit": torch.sin(1e4 * scores["total"])}


def test_every_metric_has_its_best_checkpoint(tmp_path):
    best = [{}, {"metric": "val/fit", "mode": "max", "name": "best_fit"}, {"metric": "val/fit", "name": "worst-fit"}]
    _, run, _ = train(tmp_path, "several", Scored, best=best)
    assert run.checkpoints() == ["best", "best_fit", "last", "worst-fit"]
    steps, totals = run.metrics.curve("val/total")
    _, fits = run.metrics.curve("val/fit")
    for name, at in (("best", np.argmin(totals)), ("best_fit", np.argmax(fits)), ("worst-fit", np.argmin(fits))):
        assert read_checkpoint(run.checkpoint(name))["global_step"] == steps[int(at)]


def test_a_judge_sees_every_row_and_ends_the_run(tmp_path):
    told: list[tuple[int, set[str]]] = []

    def judge(step: int, row: dict[str, float | str]) -> str | None:
        told.append((step, {name.partition("/")[0] for name in row}))
        return "seen enough" if step == 8 else None

    outcome, run, _ = train(tmp_path, "judged", judge=judge)
    assert (outcome.step, outcome.reason) == (8, "seen enough")
    assert run.provenance()["reason"] == "seen enough"
    assert [step for step, _ in told] == [3, 4, 6, 8]
    assert "val" in told[1][1]
    assert "val" not in told[0][1]
    assert train(tmp_path, "judged", resume=True)[0].reason == "finished"


def test_a_loss_that_is_no_number_can_be_told_from_other_mistakes(tmp_path):
    with pytest.raises(Diverged):
        train(tmp_path, "wild", partial(Blur), learning_rate=1e18, optimiser={"kind": "adam"}, log_every=5)
