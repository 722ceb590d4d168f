"""Following one metric: whether it still gets better, for the best checkpoint, the plateau schedule and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from lamella.core.config import Config


class Monitor(Config):
    """Which metric to follow, by its column in metrics.csv."""

    metric: str = "val/total"
    mode: Literal["min", "max"] = "min"
    min_change: float = Field(0.0, ge=0)
    """An improvement must be larger than this."""


class Best(Monitor):
    """Keep the checkpoint at which the metric was best, as ``checkpoints/NAME.ckpt``."""

    name: str = Field("best", pattern=r"^\w[\w-]*$")


class EarlyStopping(Monitor):
    """Stop when the metric has not improved for ``patience`` measurements."""

    patience: int = Field(10, ge=1)


class Follower:
    """The best value of a metric so far, and how many measurements have passed since."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.best: float | None = None
        self.since = 0

    def observe(self, metrics: Mapping[str, Any]) -> bool | None:
        """Take in one row of metrics: True if improved, False if not (or no number), None if the row lacks the metric."""
        value = metrics.get(self.monitor.metric)
        if value is None:
            return None
        sign = 1 if self.monitor.mode == "min" else -1
        better = math.isfinite(value) and (self.best is None or sign * (self.best - value) > self.monitor.min_change)
        self.best, self.since = (float(value), 0) if better else (self.best, self.since + 1)
        return better

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.since = state["best"], state["since"]
