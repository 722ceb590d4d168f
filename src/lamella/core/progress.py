"""Progress bars with throughput and remaining time, for anything that may take longer than two seconds.

On a terminal the bar is live; elsewhere (a log file, a cluster job) one line is printed now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal


class Meter:
    """Counts what is done; ``note`` is shown at the end of the bar."""

    def __init__(self, label: str, total: int, unit: str, bar: Progress | None) -> None:
        self.label, self.total, self.unit, self.done, self.note = label, total, unit, 0, ""
        self._bar, self._start, self._said = bar, time.monotonic(), time.monotonic()
        self._task = bar.add_task(label, total=total, unit=unit, note="") if bar else None

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self.done += count
        self.note = self.note if note is None else note
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=self.note)
        elif time.monotonic() - self._said > _LINE_EVERY:
            self._said = time.monotonic()
            self._say()

    def skip(self, count: int) -> None:
        """Take off work that turned out to be done already, so that rate and remaining time tell of what is left."""
        self.total -= count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self.total)

    def _say(self) -> None:
        elapsed = max(time.monotonic() - self._start, 1e-6)
        rate = self.done / elapsed
        left = (self.total - self.done) / rate if rate else float("inf")
        note = f", {self.note}" if self.note else ""
        print(
            f"{self.label}: {self.done}/{self.total}, {rate:.3g} {self.unit}/s, {left:.0f} s left{note}",
            file=sys.stderr,
        )


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {task.fields['unit']}/s" if speed else "")


@contextmanager
def progress(label: str, total: int, unit: str = "blocks") -> Iterator[Meter]:
    """A meter of ``total`` units of work, shown while the block runs."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Meter(label, total, unit, None)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), TextColumn("{task.fields[note]}")
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        yield Meter(label, total, unit, bar)
