"""A task as Lightning sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lamella.core.rng import stream
from lamella.train.average import Average
from lamella.train.batches import Samples, TrainingBatches, collate, loader
from lamella.train.checkpoints import AVERAGE
from lamella.train.config import TrainerConfig
from lamella.train.phases import check_phases, enter, forget, parameter_groups, phase_index, set_rates
from lamella.train.task import Task
from lamella.train.validation import evaluating


class Learner(LightningModule):
    """Runs the steps of a task: phases, learning rates, chance.

    All chance of step ``k`` comes from streams of (seed, k): numpy's for the augmentation, PyTorch's global generator (dropout)
    seeded anew. A resumed run therefore needs no generator state, only its step.
    """

    def __init__(self, task: Task, samples: Samples, config: TrainerConfig, seed: int) -> None:
        super().__init__()
        self.task, self.samples, self.config, self.seed = task, samples, config, seed
        self.net = task.net
        self.phases = tuple(task.phases(config.steps))
        check_phases(self.phases, self.net)
        self.schedule = config.schedule.build(config.steps)
        self._phase: int | None = None
        self._average: Average | None = None
        self._loaded: Any = None

    @property
    def phase(self) -> str:
        """Name of the phase of the step that runs or ran last."""
        return self.phases[self._phase or 0].name

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.config.optimiser.build(parameter_groups(self.net, self.phases), self.config.learning_rate)

    def train_dataloader(self) -> Any:
        batches = TrainingBatches(
            self.config.batch_size, self.trainer.global_step, self.global_rank, self.trainer.world_size
        )
        return loader(self.samples, batches, self.config.num_workers, pin_memory=self.device.type == "cuda")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        step = self.trainer.global_step
        optimiser = self.trainer.optimizers[0]
        index = phase_index(self.phases, step)
        if index != self._phase:
            self._phase = index
            enter(self.net, optimiser, self.phases, index)
            if self.phases[index].fresh_optimiser and self.phases[index].start == step:
                forget(optimiser)
        set_rates(optimiser, index, self.config.learning_rate * self.schedule.factor(step))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        step = self.trainer.global_step
        self._seed_torch(int(stream(self.seed, "torch", step, self.global_rank).integers(2**62)))
        sample = self._sample(batch, stream(self.seed, "augment", step, self.global_rank), training=True)
        parts = self.task.loss(sample, step)
        return {"loss": parts["total"], "parts": {name: value.detach() for name, value in parts.items()}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """On a CPU nothing scales gradients; Lightning does not know that, and refuses to clip for a fused optimiser."""
        if self.device.type == "cpu" and gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_start(self) -> None:
        if self.config.average:
            self._average = Average(self.net, self.config.average, self._loaded)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint.get(AVERAGE)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._average:
            checkpoint[AVERAGE] = self._average.state_dict()

    def stepped(self, step: int) -> None:
        """Take note of the weights after ``step`` steps."""
        if self._average:
            self._average.update(step)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The net in evaluation mode, without gradients, with averaged weights if the run averages them."""
        with evaluating(self.net), self._average.shown() if self._average else nullcontext():
            yield

    def scores(self, batch: Any, number: int) -> dict[str, Tensor]:
        """Scores of held-out batch ``number``, always with the same chance."""
        sample = self._held_out(batch, number)
        with self.trainer.precision_plugin.val_step_context():
            return self.task.validate(sample)

    def panels(self, batch: Any) -> dict[str, bytes]:
        """The task's pictures of a batch, in full precision."""
        with self.evaluating(), torch.autocast(self.device.type, enabled=False):
            return self.task.panels(self._held_out(batch, 0))

    def graph_inputs(self) -> tuple[Any, ...]:
        """What the net takes, made of the first training sample."""
        batch = collate([self.samples[0]])
        with self.evaluating(), torch.autocast(self.device.type, enabled=False):
            return self.task.inputs(self._held_out(batch, 0))

    def _seed_torch(self, seed: int) -> None:
        """Seed the generators that this device draws from. ``torch.manual_seed`` also notes, with its stack of calls, the seed for
        every kind of device that is never used, which takes longer than the step of a small net."""
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def _held_out(self, batch: Any, number: int) -> Any:
        batch = self.transfer_batch_to_device(batch, self.device, 0)
        return self._sample(batch, stream(self.seed, "validate", number), training=False)

    def _sample(self, batch: Any, rng: np.random.Generator, *, training: bool) -> Any:
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.task.sample(batch, rng, training)
