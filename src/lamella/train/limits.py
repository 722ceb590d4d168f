"""Reasons to stop: the last step, a budget of time, no more improvement, or the user."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lamella.train.config import TrainerConfig
from lamella.train.monitor import Follower

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def keeping_handlers() -> Iterator[None]:
    """Put the handlers of signals back at the end, which Lightning and ``Interrupt`` do in the wrong order of each other."""
    before = {kind: signal.getsignal(kind) for kind in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for kind, handler in before.items():
                signal.signal(kind, handler)


class Interrupt:
    """Whether the user (Ctrl-C) or the cluster (SIGTERM) has asked to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals inside the block; only the main thread may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {kind: signal.signal(kind, self._note) for kind in _SIGNALS}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


class Limits:
    """When to stop. Time and CPU time count on over a resume."""

    def __init__(self, config: TrainerConfig) -> None:
        self._config, self.interrupt = config, Interrupt()
        self._follower = Follower(config.early_stopping) if config.early_stopping else None
        self._spent = (0.0, 0.0)
        self._began = (time.monotonic(), time.process_time())

    @property
    def seconds(self) -> float:
        return self._spent[0] + time.monotonic() - self._began[0]

    @property
    def cpu_seconds(self) -> float:
        return self._spent[1] + time.process_time() - self._began[1]

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """Take in a row of metrics, for early stopping."""
        if self._follower:
            self._follower.observe(metrics)

    def reached(self, step: int, *, may_end: bool = True) -> str | None:
        """Why to stop after ``step`` steps; None to go on. Lack of improvement is a reason only if the schedule ``may_end`` here."""
        config, early = self._config, self._config.early_stopping
        if step >= config.steps:
            return "finished"
        if self.interrupt.asked:
            return "interrupted"
        if early and self._follower and may_end and self._follower.since >= early.patience:
            return f"stopped early: {early.metric} has not improved for {early.patience} measurements"
        if config.max_cpu_seconds is not None and self.cpu_seconds >= config.max_cpu_seconds:
            return f"reached max_cpu_seconds={config.max_cpu_seconds:g}"
        if config.max_seconds is not None and self.seconds >= config.max_seconds:
            return f"reached max_seconds={config.max_seconds:g}"
        return None

    def state_dict(self) -> dict[str, Any]:
        follower = self._follower.state_dict() if self._follower else None
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "follower": follower}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._spent = (state["seconds"], state["cpu_seconds"])
        self._began = (time.monotonic(), time.process_time())
        if self._follower and state["follower"]:
            self._follower.load_state_dict(state["follower"])
