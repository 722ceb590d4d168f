"""Averages of the losses between two rows of metrics, kept on the device so that no step waits for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Averages:
    """Sums and counts by name. Their state goes into the checkpoint, so a resumed run writes the same rows."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, float] = {}

    def add(self, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Take in scalar tensors, ``weight`` times each."""
        for name, value in values.items():
            value = weight * value.detach().float()
            if name in self._sums:
                value = value + self._sums[name].to(value.device)
            self._sums[name] = value
            self._counts[name] = self._counts.get(name, 0.0) + weight

    def means(self) -> dict[str, Tensor]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}

    def clear(self) -> None:
        self._sums.clear()
        self._counts.clear()

    def state_dict(self) -> dict[str, dict[str, float]]:
        # float32 sums are exact as Python floats
        return {"sums": {name: float(total) for name, total in self._sums.items()}, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        self._sums = {name: torch.tensor(total) for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])
