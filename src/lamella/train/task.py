"""The contract for what to learn.

A task knows its net, how a batch becomes a sample (augmentation), and what is good and bad (losses). It knows nothing of steps
per second, devices, checkpoints, logs or command lines: `lamella.train.fit` does those for every task alike.

What happens at step ``k`` of a run, with all chance drawn from the run's seed and ``k`` alone:

```
batch k  ->  task.sample(batch, rng)  ->  task.loss(sample, k)  ->  step of the phase's modules
             augment, weigh                {"total": ..., "similarity": ...}
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn


@dataclass(frozen=True)
class Phase:
    """A stretch of a run that trains some modules of the net, each at its own learning rate.

    ``train`` maps a prefix of parameter names (``"aligners.3"``; ``""`` is the whole net) to a factor of the run's learning
    rate; the longest prefix that fits counts. Parameters that no prefix fits, or whose factor is 0, keep their values.
    """

    start: int = 0
    name: str = "all"
    train: Mapping[str, float] = field(default_factory=lambda: {"": 1.0})
    fresh_optimiser: bool = False
    """Forget the optimiser's moments when the phase begins."""


class Task(ABC):
    """What to learn, as the training loop sees it.

    The loop moves ``net`` to its device; a task makes its tensors on the device of the sample.
    """

    net: nn.Module

    @abstractmethod
    def loss(self, sample: Any, step: int) -> dict[str, Tensor]:
        """Scalar tensors by name: ``total`` is minimised, the others are its parts and are logged beside it."""

    def check(self, sample: Any) -> None:
        """Raise UserError for data that the task cannot learn from, by one of its samples; asked before a training begins."""
        return None

    def sample(self, batch: Any, rng: np.random.Generator, training: bool) -> Any:
        """What the loss needs, from a collated batch on the device; without gradients and in full precision.

        Augment if ``training``; draw nothing from any other source than ``rng``.
        """
        return batch

    def phases(self, steps: int) -> Sequence[Phase]:
        """The phases of a run of ``steps`` steps, the first from step 0, in order."""
        return (Phase(),)

    def validate(self, sample: Any) -> dict[str, Tensor]:
        """Scalar scores of one held-out batch, called without gradients and with the net in evaluation mode."""
        return self.loss(sample, step=0)

    def inputs(self, sample: Any) -> tuple[Any, ...]:
        """What the loss of a sample calls ``net`` with, to draw its graph; empty if it calls parts of it only."""
        found: list[tuple[Any, ...]] = []
        handle = self.net.register_forward_pre_hook(lambda _, inputs: found.append(inputs))
        try:
            self.loss(sample, step=0)
        finally:
            handle.remove()
        return found[0] if found else ()

    def compile(self) -> None:
        """Compile what the loss calls, in place. A task that calls parts of its net, not the net itself, compiles those."""
        self.net.compile()

    def panels(self, sample: Any) -> dict[str, bytes]:
        """Pictures of what the net makes of a sample: file name (``field.png``, ``flicker.gif``) to encoded bytes."""
        return {}

    def watch(self, metrics: Mapping[str, float]) -> str | None:
        """Name a known way of failing that the averaged losses show, with advice; None if there is no sign of one.

        ``metrics`` has the names of ``loss``, and ``step``. A sign that stays is reported once.
        """
        return None
