import csv
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lamella.core.errors import UserError
from lamella.runs import RunFolder
from lamella.train.config import TrainerConfig
from lamella.train.fit import fit, seeded
from lamella.train.task import Phase
from tests.train.noise import Noise
from tests.train.toy import Blur, Interrupted, Slow, same, state, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without interruption: (run, final state)."""
    outcome, run, toy = train(tmp_path_factory.mktemp("whole"), "whole")
    assert outcome.step == 40
    assert outcome.reason == "finished"
    return run, state(toy)


def rows(run: RunFolder) -> list[dict[str, str]]:
    with run.metrics.path.open() as file:
        return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in csv.DictReader(file)]


def test_same_seed_gives_the_same_run(whole, tmp_path):
    run, final = whole
    _, again, toy = train(tmp_path, "again")
    assert same(state(toy), final)
    assert rows(again) == rows(run)


def test_workers_change_nothing(whole, tmp_path):
    _, _, toy = train(tmp_path, "workers", num_workers=1)
    assert same(state(toy), whole[1])


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 17), (signal.SIGTERM, 24)])
def test_interrupted_run_goes_on_as_if_it_had_not_been(whole, tmp_path, number, step):
    outcome, run, _ = train(tmp_path, "stopped", partial(Interrupted, step, number))
    assert outcome.interrupted
    assert outcome.step == step + 1  # the step was ended and kept
    assert run.provenance()["state"] == "stopped"
    outcome, run, toy = train(tmp_path, "stopped", resume=True)
    assert outcome.reason == "finished"
    assert same(state(toy), whole[1])
    assert rows(run) == rows(whole[0])
    assert run.provenance()["resumed"][0]["step"] == step + 1


def test_killed_run_goes_on_as_if_it_had_not_been(whole, tmp_path):
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    child = subprocess.Popen([sys.executable, "-m", "tests.train.toy", str(tmp_path), "killed"], cwd=root, env=env)
    file = tmp_path / "killed" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not (file.exists() and "\n24," in file.read_text()):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    run = RunFolder.open("killed", tmp_path)
    assert run.state() == "killed"
    with file.open("a") as half:
        half.write("27,0.01")  # as a kill in the middle of a row leaves it
    _, run, toy = train(tmp_path, "killed", Slow, resume=True)
    assert same(state(toy), whole[1])
    assert rows(run) == rows(whole[0])


def test_signals_mean_afterwards_what_they_meant_before(tmp_path):
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(kind) for kind in kinds]
    train(tmp_path, "short", steps=1, panels_every=0)
    assert [signal.getsignal(kind) for kind in kinds] == before


def test_killed_before_the_first_checkpoint_starts_again(whole, tmp_path):
    run = RunFolder.create("early", {}, runs=tmp_path)
    run.metrics.append(3, {"train/total": 1.0})
    _, run, toy = train(tmp_path, "early", resume=True)
    assert same(state(toy), whole[1])
    assert rows(run) == rows(whole[0])


def test_resuming_a_finished_run_changes_nothing(whole):
    run, _ = whole
    before = run.checkpoint().read_bytes()
    outcome, _, _ = train(run.path.parent, "whole", resume=True)
    assert outcome.step == 40
    assert run.checkpoint().read_bytes() == before


def test_a_run_keeps_what_it_promises(whole):
    run, _ = whole
    assert run.checkpoints() == ["best", "last"]
    assert (run.path / "panels" / "step_0000020" / "blur.png").stat().st_size == 4 * 2 * 12 * 12
    assert list((run.path / "tensorboard").glob("events*"))
    assert run.provenance()["warnings"] == [{"step": 3, "message": "nearly there"}]  # once, not at every row
    steps, values = run.metrics.curve("val/total")
    assert steps == list(range(4, 41, 4))
    best = torch.load(run.checkpoint("best"), weights_only=True)
    assert best["global_step"] == steps[int(np.argmin(values))]
    rates = run.metrics.curve("learning_rate")[1]
    assert rates[0] == 0.01
    assert rates[-1] < 0.01  # the plateau was met, so the resumed runs above had it to remember


def test_loss_falls_on_one_sample(tmp_path):
    class One(Noise):
        def __getitem__(self, index):
            return super().__getitem__(0)

    run = RunFolder.create("one", {}, runs=tmp_path)
    config = TrainerConfig(steps=200, learning_rate=0.02, log_every=10, panels_every=0, device="cpu")
    fit(seeded(Blur, 0), One(), run, config)
    _, losses = run.metrics.curve("train/absolute")
    assert losses[-1] < losses[0] / 5
    assert run.checkpoints() == ["last"]  # nothing was held out, so none is called best


def test_a_phase_leaves_alone_what_it_does_not_train(tmp_path):
    phases = (Phase(0, "head", {"3": 1.0}), Phase(8, "body", {"0": 0.5, "1": 0.5}, fresh_optimiser=True))
    first = state(seeded(Blur, 1))
    task = partial(Blur, phases)
    _, run, toy = train(tmp_path, "phases", task, steps=8, schedule={"kind": "constant"})
    middle = state(toy)
    for name in first:
        assert torch.equal(first[name], middle[name]) == (not name.startswith("3.")), name
    _, run, toy = train(tmp_path, "both", task, steps=20, schedule={"kind": "constant"})
    last = state(toy)
    for name in middle:
        assert torch.equal(middle[name], last[name]) == name.startswith("3."), name
    assert [row["phase"] for row in rows(run) if row["phase"]] == ["head"] * 2 + ["body"] * 5
    moments = torch.load(run.checkpoint(), weights_only=True)["optimizer_states"][0]["state"]
    assert {int(m["step"]) for m in moments.values()} == {12}  # those of the head were forgotten


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ((Phase(5),), "must start at 0"),
        ((Phase(0), Phase(0)), "later than the one before"),
        ((Phase(0, "levels", {"7": 1.0}),), "trains '7', which is no part"),
        ((Phase(0, "none", {"3": 0.0}),), "trains nothing"),
    ],
)
def test_phases_that_do_not_fit_are_refused(tmp_path, phases, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path, "wrong", partial(Blur, phases))


def test_mixed_precision_learns(tmp_path):
    _, run, _ = train(tmp_path, "bf16", precision="bf16-mixed")
    values = run.metrics.curve("train/total")[1]
    assert values[-1] < values[0] / 2


def test_compiled_net_learns_the_same(whole, tmp_path):
    _, run, toy = train(tmp_path, "compiled", compile=True, steps=4, log_every=1)
    assert toy.net._compiled_call_impl is not None
    plain = whole[0].metrics.curve("train/total")[1][0]
    assert np.mean(run.metrics.curve("train/total")[1][:3]) == pytest.approx(plain, rel=1e-4)


def test_a_loss_that_is_no_number_is_named(tmp_path):
    with pytest.raises(UserError, match=r"total, absolute became .* lower trainer\.learning_rate \(now 1e\+18\)"):
        train(tmp_path, "wild", learning_rate=1e18, optimiser={"kind": "adam"}, log_every=5)
    facts = RunFolder.open("wild", tmp_path).provenance()
    assert facts["state"] == "failed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_cpu_seconds": 0.01}, "reached max_cpu_seconds=0.01"),
        ({"max_seconds": 0.01}, "reached max_seconds=0.01"),
        ({"early_stopping": {"patience": 2, "min_change": 10}}, "stopped early: val/total"),
    ],
)
def test_a_run_stops_where_its_limits_say(tmp_path, changes, reason):
    outcome, run, _ = train(tmp_path, "limited", **changes)
    assert outcome.step < 40
    assert reason in run.provenance()["reason"]
    assert torch.load(run.checkpoint(), weights_only=True)["global_step"] == outcome.step


def test_a_run_with_checkpoints_is_not_begun_again(whole):
    run, _ = whole
    with pytest.raises(UserError, match="--resume"):
        fit(seeded(Blur, 1), Noise(), run, TrainerConfig(device="cpu"))


def test_kept_checkpoints_are_numbered(tmp_path):
    _, run, _ = train(tmp_path, "kept", steps=10, keep_every=5)
    assert run.checkpoints() == ["best", "last", "step_0000005", "step_0000010"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "gpu"}, "is not auto, cpu"),
        ({"precision": "16-mixed", "device": "cpu"}, "needs a GPU"),
        ({"max_cpu_seconds": 5, "num_workers": 2}, "num_workers=0"),
        ({"keep_every": 7, "checkpoint_every": 5}, "multiple"),
        ({"lerning_rate": 1}, "did you mean 'learning_rate'"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        TrainerConfig.load(values)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="this machine has no GPU"):
        train(tmp_path, "gpu", device="cuda:1")
