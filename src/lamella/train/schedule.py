"""Learning-rate schedules: a factor for every step, which multiplies the run's rate and the phase's own factor.

All but ``plateau`` are functions of the step alone. ``plateau`` follows a metric and keeps what it saw in the checkpoint, so a
resumed run goes on as if nothing had happened. ``trainer.learning_rate`` is the highest rate of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from lamella.core.config import Config
from lamella.train.monitor import Follower, Monitor


@runtime_checkable
class Schedule(Protocol):
    """A factor per step, from what has been observed so far."""

    def factor(self, step: int) -> float: ...

    def may_end(self, step: int) -> bool:
        """Whether a run that has stopped improving may end after ``step`` steps."""
        ...

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


class OneCycle(Config):
    """From ``start`` times the rate up to it within the share ``rise`` of the steps, then down to ``final`` times the rate, both as
    half a cosine (Smith and Topin 2018). The optimiser's momentum stays as it is.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    rise: float = Field(0.3, gt=0, lt=1)
    start: float = Field(0.04, ge=0, le=1)
    final: float = Field(4e-6, ge=0, le=1)

    def build(self, steps: int) -> Schedule:
        peak = max(self.rise * steps - 1, 1e-9)

        def factor(step: int) -> float:
            if step <= peak:
                return _half_cosine(self.start, 1.0, step / peak)
            return _half_cosine(1.0, self.final, min((step - peak) / max(steps - 1 - peak, 1e-9), 1.0))

        return _ByStep(factor)


class Cyclical(Config):
    r"""Up and down between ``base`` times the rate and the rate in straight lines, without end (Smith 2017).

    ```
      /\    /\      highest: base + (1 - base) γ^c in cycle c = 1, 2, ..., or with γ^i at step i
     /  \  /  \
    /    \/    \    lowest: base
    |--| step_size
    ```
    Early stopping waits for the end of a cycle, where the rate is lowest.
    """

    kind: Literal["cyclical"] = "cyclical"
    step_size: int = Field(2000, ge=1)
    """Steps of half a cycle; good values are 2 to 10 times the steps that see every training image once."""
    base: float = Field(1 / 6, ge=0, le=1)
    """Lowest rate as a share of the highest."""
    gamma: float = Field(1.0, gt=0, le=1)
    """By what the height of a cycle shrinks."""
    per: Literal["cycle", "step"] = "cycle"
    """Whether it shrinks with every cycle or with every step."""

    def build(self, steps: int) -> Schedule:
        def factor(step: int) -> float:
            cycle = math.floor(1 + step / (2 * self.step_size))
            x = abs(step / self.step_size - 2 * cycle + 1)
            height = self.gamma ** (cycle if self.per == "cycle" else step)
            return self.base + (1 - self.base) * max(0.0, 1 - x) * height

        return _ByStep(factor, period=2 * self.step_size)


class Ramp(Config):
    """From ``start`` times the rate up to it over all steps; what a range finder trains with."""

    kind: Literal["ramp"] = "ramp"
    start: float = Field(1e-6, gt=0, lt=1)
    shape: Literal["exponential", "linear"] = "exponential"

    def build(self, steps: int) -> Schedule:
        def factor(step: int) -> float:
            done = min(step / max(steps - 1, 1), 1.0)
            return self.start ** (1 - done) if self.shape == "exponential" else self.start + (1 - self.start) * done

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


ScheduleConfig = Annotated[Constant | Cosine | OneCycle | Cyclical | Ramp | Plateau, Field(discriminator="kind")]


class _ByStep:
    def __init__(self, factor: Callable[[int], float], period: int = 1) -> None:
        self.factor, self._period = factor, period

    def may_end(self, step: int) -> bool:
        return step % self._period == 0

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

    def may_end(self, step: int) -> bool:
        return True

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


def _half_cosine(first: float, last: float, done: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
