"""What follows each optimiser step: measure, write down, show, keep, stop. The order is that of ``on_train_batch_end``.

A checkpoint is written after everything else of its step, and everything before depends on the step number and on state that
is in the checkpoint. So a run that goes on from it does what the uninterrupted run did.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.core.progress import Meter
from lamella.runs import RunFolder
from lamella.train.averages import Averages
from lamella.train.config import TrainerConfig
from lamella.train.graph import draw_graph
from lamella.train.journal import Journal
from lamella.train.learner import Learner
from lamella.train.limits import Limits
from lamella.train.monitor import Follower
from lamella.train.validation import Validation

Judge = Callable[[int, Mapping[str, float | str]], str | None]
"""Is told each row of metrics with its step, and says why to stop, or None."""


class Diverged(UserError):
    """The loss is no number any more."""


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there, so that a kill leaves the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        # given a path instead of a file, torch does not tell why it could not write
        with replacing(path) as beside, open(beside, "wb") as file:
            torch.save(checkpoint, file)


class Steps(Callback):
    """Runs the bookkeeping of a training. ``journal`` and ``meter`` are None on all devices but the first."""

    def __init__(
        self,
        run: RunFolder,
        config: TrainerConfig,
        limits: Limits,
        validation: Validation | None,
        journal: Journal | None,
        meter: Meter | None,
        judge: Judge | None = None,
    ) -> None:
        self.run, self.config, self.limits = run, config, limits
        self.validation, self.journal, self.meter, self.judge = validation, journal, meter, judge
        self.averages = Averages()
        self.best = {best.name: Follower(best) for best in config.best}
        self.reason: str | None = None
        self._learner: Learner | None = None
        self._shown = self._logged_at = time.monotonic()
        self._logged_step = 0
        self._signals = ExitStack()
        self._warned = False
        self._verdict: str | None = None

    def on_train_start(self, trainer: Trainer, learner: Any) -> None:
        self._signals.enter_context(self.limits.interrupt.listening())  # after Lightning has set its own handlers
        if self.journal and self.config.graph and trainer.global_step == 0:
            draw_graph(learner, self.journal)
        self._logged_at, self._logged_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, learner: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step  # number of steps done
        learner.stepped(step)
        self.averages.add(outputs["parts"])
        self._show(step, learner, outputs)
        row = self._measure(trainer, learner, step)
        if row:
            self._note(learner, step, row)
        if self._due(step, self.config.panels_every):
            self._picture(learner, step, batch)
        self._stop(trainer, learner, step)
        if self._due(step, self.config.checkpoint_every) or self.reason:
            self._save(trainer, step)

    def teardown(self, trainer: Trainer, learner: Any, stage: str) -> None:
        self._signals.close()

    def state_dict(self) -> dict[str, Any]:
        assert self._learner is not None
        return {
            "warned": self._warned,
            "averages": self.averages.state_dict(),
            "limits": self.limits.state_dict(),
            "schedule": self._learner.schedule.state_dict(),
            "best": {name: follower.state_dict() for name, follower in self.best.items()},
        }

    def setup(self, trainer: Trainer, learner: Any, stage: str) -> None:
        self._learner = learner

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert self._learner is not None
        self._warned = state["warned"]
        self.averages.load_state_dict(state["averages"])
        self.limits.load_state_dict(state["limits"])
        self._learner.schedule.load_state_dict(state["schedule"])
        for name in self.best.keys() & state["best"].keys():
            self.best[name].load_state_dict(state["best"][name])

    def _due(self, step: int, every: int) -> bool:
        return every > 0 and (step % every == 0 or step == self.config.steps)

    def _measure(self, trainer: Trainer, learner: Learner, step: int) -> dict[str, float | str]:
        row: dict[str, float | str] = {}
        if self._due(step, self.config.log_every):
            row |= self._training_row(trainer, learner, step)
        if self.validation and self._due(step, self.config.validate_every):
            row |= {f"val/{name}": value for name, value in self.validation.scores(learner).items()}
        return row

    def _training_row(self, trainer: Trainer, learner: Learner, step: int) -> dict[str, float | str]:
        means = {name: float(trainer.strategy.reduce(mean)) for name, mean in self.averages.means().items()}
        self._refuse_non_finite(step, means)
        self.averages.clear()
        now = time.monotonic()
        rate = (step - self._logged_step) * self._samples_per_step(trainer) / (now - self._logged_at)
        self._logged_at, self._logged_step = now, step
        self._warn(step, learner.task.watch({**means, "step": float(step)}))
        return {
            **{f"train/{name}": mean for name, mean in means.items()},
            "phase": learner.phase,
            "learning_rate": self.config.learning_rate * learner.schedule.factor(step - 1),
            "samples_per_second": rate,
        }

    def _note(self, learner: Learner, step: int, row: dict[str, float | str]) -> None:
        learner.schedule.observe(row)
        self.limits.observe(row)
        self._verdict = self.judge(step, row) if self.judge else None
        if self.journal:
            self.journal.write(step, row)
        for name, follower in self.best.items():
            if follower.observe(row):
                self.save(learner.trainer, name)

    def _picture(self, learner: Learner, step: int, batch: Any) -> None:
        if self.journal:
            for name, encoded in learner.panels(self.validation.first_batch() if self.validation else batch).items():
                self.journal.picture(step, name, encoded)

    def _stop(self, trainer: Trainer, learner: Learner, step: int) -> None:
        self.reason = self.limits.reached(step, may_end=learner.schedule.may_end(step)) or self._verdict
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(self.reason is not None, all=False):
            self.reason = self.reason or "stopped with another device"
        trainer.should_stop = self.reason is not None

    def _save(self, trainer: Trainer, step: int) -> None:
        self._refuse_non_finite(step, {name: float(mean) for name, mean in self.averages.means().items()})
        if self.config.keep_every and step % self.config.keep_every == 0:
            self.save(trainer, f"step_{step:07d}")
        self.save(trainer, "last")

    def save(self, trainer: Trainer, name: str) -> None:
        """Write checkpoint ``name`` with everything that a resumed run needs."""
        trainer.save_checkpoint(self.run.checkpoint_path(name))

    def _refuse_non_finite(self, step: int, means: Mapping[str, float]) -> None:
        broken = [name for name, mean in means.items() if not math.isfinite(mean)]
        if broken:
            raise Diverged(
                f"{', '.join(broken)} became {means[broken[0]]} within the last {self.config.log_every} steps before step "
                f"{step}; lower trainer.learning_rate (now {self.config.learning_rate:g}) or set trainer.clip=1, and check "
                "the data for NaN. Checkpoints from before are kept"
            )

    def _warn(self, step: int, message: str | None) -> None:
        if message and not self._warned and self.journal:
            self.journal.warn(step, message)
            print(f"warning at step {step}: {message}", file=sys.stderr)
        self._warned = message is not None

    def _show(self, step: int, learner: Learner, outputs: Any) -> None:
        if self.meter is None:
            return
        note = None
        if time.monotonic() - self._shown > 1 or self.meter.done == 0:  # reading a loss waits for the device
            self._shown = time.monotonic()
            note = f"step {step}/{self.config.steps} {learner.phase} loss {float(outputs['loss']):.4g}"
        self.meter.advance(self._samples_per_step(learner.trainer), note)

    def _samples_per_step(self, trainer: Trainer) -> int:
        return self.config.batch_size * trainer.world_size
