"""A small real task: learn to blur. Run as a script it trains in a process of its own, to be killed there."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lamella.runs import RunFolder
from lamella.train.config import TrainerConfig
from lamella.train.fit import Outcome, fit, seeded
from lamella.train.steps import Judge
from lamella.train.task import Phase, Task
from tests.train.noise import Noise

# Every way in which a step can depend on the steps before is on: phases, moments, plateau, early stopping, rows out of beat
SETTINGS: dict[str, Any] = {
    "steps": 40,
    "batch_size": 2,
    "learning_rate": 0.01,
    "optimiser": {"kind": "adamw"},
    "schedule": {"kind": "plateau", "patience": 1, "min_change": 0.002},
    "device": "cpu",
    "threads": 1,
    "log_every": 3,
    "validate_every": 4,
    "checkpoint_every": 5,
    "panels_every": 20,
    "early_stopping": {"patience": 100},
}


class Blur(Task):
    """Two convolutions, the first with running statistics and dropout after it."""

    def __init__(self, phases: Sequence[Phase] = (Phase(),)) -> None:
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.1), nn.Conv2d(4, 1, 3, padding=1)
        )
        self._phases = phases

    def phases(self, steps: int) -> Sequence[Phase]:
        return self._phases

    def sample(self, batch: Tensor, rng: np.random.Generator, training: bool) -> Tensor:
        return batch + torch.from_numpy(rng.normal(0, 0.02, batch.shape)).to(batch) if training else batch

    def loss(self, sample: Tensor, step: int) -> dict[str, Tensor]:
        error = self.net(sample) - nn.functional.avg_pool2d(sample, 3, 1, 1)
        return {"total": error.square().mean() + 0.1 * error.abs().mean(), "absolute": error.abs().mean()}

    def panels(self, sample: Tensor) -> dict[str, bytes]:
        return {"blur.png": self.net(sample).numpy().tobytes()}

    def watch(self, metrics: Mapping[str, float]) -> str | None:
        return "nearly there" if metrics["absolute"] < 10 else None


class Interrupted(Blur):
    """Gets a signal in the middle of a step."""

    def __init__(self, step: int, number: int) -> None:
        super().__init__()
        self._step, self._number = step, number

    def loss(self, sample: Tensor, step: int) -> dict[str, Tensor]:
        if step == self._step and self.net.training:
            os.kill(os.getpid(), self._number)
        return super().loss(sample, step)


class Slow(Blur):
    """Leaves time to be killed in."""

    def sample(self, batch: Tensor, rng: np.random.Generator, training: bool) -> Tensor:
        time.sleep(0.02)
        return super().sample(batch, rng, training)


def train(
    folder: Path,
    name: str,
    task: type[Blur] | Any = Blur,
    *,
    resume: bool = False,
    judge: Judge | None = None,
    **changes: Any,
) -> tuple[Outcome, RunFolder, Task]:
    """Train a toy in ``folder/name`` with the settings above."""
    run = RunFolder.open(name, folder) if resume else RunFolder.create(name, {}, runs=folder)
    toy = seeded(task, 1)
    config = TrainerConfig.load({**SETTINGS, **changes})
    outcome = fit(toy, Noise(), run, config, seed=5, held_out=Noise(first=10_000), resume=resume, judge=judge)
    return outcome, run, toy


def state(task: Task) -> dict[str, Tensor]:
    """Weights and running statistics."""
    return {name: value.clone() for name, value in task.net.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two states are equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


if __name__ == "__main__":
    train(Path(sys.argv[1]), sys.argv[2], Slow, resume="--resume" in sys.argv)
    signal.pause()  # finished before it was killed: wait for it
