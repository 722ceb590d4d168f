"""Scores on held-out samples, the same samples with the same chance each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lamella.train.averages import Averages
from lamella.train.batches import HeldOut, collate, held_out_batches, loader

if TYPE_CHECKING:
    from lamella.train.learner import Learner


class Validation:
    """A held-out set in batches. Every device scores all of it, so all come to the same decisions."""

    def __init__(self, samples: HeldOut, batch_size: int, num_workers: int) -> None:
        self._samples = samples
        self._batches = held_out_batches(len(samples), batch_size)
        self._loader = loader(samples, self._batches, num_workers)

    def scores(self, learner: Learner) -> dict[str, float]:
        """Mean over the samples of what the task's ``validate`` gives."""
        averages = Averages()
        with learner.evaluating():
            for number, (indices, batch) in enumerate(zip(self._batches, self._loader, strict=True)):
                averages.add(learner.scores(batch, number), weight=float(len(indices)))
        return {name: float(mean) for name, mean in averages.means().items()}

    def first_batch(self) -> Any:
        """The batch that pictures are made of."""
        return collate([self._samples[i] for i in self._batches[0]])


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The net in evaluation mode and without gradients."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
