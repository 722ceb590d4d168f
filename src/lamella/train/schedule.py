"""Learning-rate schedules: a factor for every step, which multiplies the run's rate and the phase's own factor.

``constant`` and ``cosine`` are functions of the step alone. ``plateau`` follows a metric and keeps what it saw in the
checkpoint, so a resumed run goes on as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from lamella.core.config import Config
from lamella.train.monitor import Follower, Monitor


@runtime_checkable
class Schedule(Protocol):
    """A factor per step, from what has been observed so far."""

    def factor(self, step: int) -> float: ...

    def observe(self, metrics: Mapping[str, Any]) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Constant(Config):
    """The same rate throughout, after an optional linear rise over ``warmup`` steps."""

    kind: Literal["constant"] = "constant"
    warmup: int = Field(0, ge=0)

    def build(self, steps: int) -> Schedule:
        return _ByStep(lambda step: _rise(step, self.warmup))


class Cosine(Config):
    """A linear rise over ``warmup`` steps, then half a cosine down to ``final`` times the rate (Loshchilov and Hutter 2017).

    ```
       /‾‾\\
      /     \\
     /        \\__ final
    ```
    """

    kind: Literal["cosine"] = "cosine"
    warmup: int = Field(0, ge=0)
    final: float = Field(0.0, ge=0, le=1)

    def build(self, steps: int) -> Schedule:
        def factor(step: int) -> float:
            done = min(max((step - self.warmup) / max(steps - self.warmup, 1), 0.0), 1.0)
            return _rise(step, self.warmup) * (self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2)

        return _ByStep(factor)


class Plateau(Monitor):
    """Multiply the rate by ``factor`` whenever the metric has not improved for ``patience`` measurements."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(5, ge=1)
    least: float = Field(1e-3, ge=0)
    """The rate never falls below this share of the first."""
    warmup: int = Field(0, ge=0)

    def build(self, steps: int) -> Schedule:
        return _OnPlateau(self)


ScheduleConfig = Annotated[Constant | Cosine | Plateau, Field(discriminator="kind")]


class _ByStep:
    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """Nothing that is measured changes this schedule."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is no state."""


class _OnPlateau:
    def __init__(self, config: Plateau) -> None:
        self.config = config
        self._follower = Follower(config)
        self._scale = 1.0

    def factor(self, step: int) -> float:
        return self._scale * _rise(step, self.config.warmup)

    def observe(self, metrics: Mapping[str, Any]) -> None:
        if self._follower.observe(metrics) is False and self._follower.since >= self.config.patience:
            self._scale = max(self._scale * self.config.factor, self.config.least)
            self._follower.since = 0

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self._scale, "follower": self._follower.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scale = state["scale"]
        self._follower.load_state_dict(state["follower"])


def _rise(step: int, warmup: int) -> float:
    return min((step + 1) / (warmup + 1), 1.0)
