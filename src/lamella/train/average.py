"""The moving average of a net's weights, which often generalises better than the weights of the last step (Polyak and Juditsky 1992;
Tarvainen and Valpola 2017).

The optimiser goes on with the weights themselves. Validation, panels, the best checkpoints and everything that loads a run see the
average; a checkpoint holds both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from pydantic import Field
from torch import Tensor, nn

from lamella.core.config import Config


class AverageConfig(Config):
    """Average the weights over about the last 1 / (1 - ``decay``) steps."""

    decay: float = Field(0.999, gt=0, lt=1)
    """What the average keeps of itself in a step. In the first steps less, (1 + step) / (10 + step): they have no long past."""


class Average:
    """Averages of all parameters and buffers of ``net``, on its device; those that are no floating-point numbers are not averaged.

    ``state`` are the averages of a checkpoint to go on from.
    """

    def __init__(self, net: nn.Module, config: AverageConfig, state: Mapping[str, Tensor] | None = None) -> None:
        self._net, self._config = net, config
        kept = net.state_dict().keys()  # buffers that are not saved are constants
        tensors = chain(net.named_parameters(), net.named_buffers())
        self._own = {name: tensor for name, tensor in tensors if name in kept and tensor.is_floating_point()}
        self._means = {name: tensor.detach().clone() for name, tensor in self._own.items()}
        for name, value in (state or {}).items():
            if name in self._means:
                self._means[name].copy_(value)

    def update(self, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        decay = min(self._config.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._means.values()), list(self._own.values()), 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The net with the averages in the place of its weights; afterwards it has its weights back, to the bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Tensor]:
        """The whole state of the net with averages where there are any."""
        return {**self._net.state_dict(), **self._means}

    def _exchange(self) -> None:
        for name, tensor in self._own.items():
            self._means[name], tensor.data = tensor.data, self._means[name]
