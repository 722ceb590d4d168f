"""What all demonstrations share: a folder with a record of what is done, so that one that was stopped goes on when it is repeated."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.recipe.demo_settings import DemoSettings
from lamella.runs import RunFolder

RUN = "demo"
_RECORD = "demo.json"


@dataclass
class Demonstration:
    """Where a demonstration keeps its parts, what of it is done (seconds per step), and what it found out on the way."""

    task: ClassVar[str]
    made: ClassVar[Sequence[str]]
    """Folders and files that it makes, besides its record and its page."""

    out: Path
    settings: DemoSettings
    seconds: dict[str, float] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.out / "runs" / RUN)

    @property
    def report(self) -> Path:
        return self.out / "report.html"

    def begin(self, *, overwrite: bool) -> None:
        """Start anew, or go on with what is there; refuses a folder that holds anything else."""
        record = self.out / _RECORD
        if self.out.exists() and any(self.out.iterdir()) and not record.exists():
            raise UserError(f"output {self.out} exists and is no demonstration; choose another --out")
        if record.exists():
            known = json.loads(record.read_text())
            if known.get("task", "align") != self.task:
                raise UserError(f"output {self.out} is a demonstration of {known['task']}; choose another --out")
            same = known["settings"] == self.settings.to_dict()
            if not overwrite and (not same or self.report.exists()):
                why = "exists already" if same else "was begun with other settings"
                raise UserError(f"output {self.out} {why}; choose another --out, or replace it with --overwrite")
            if not overwrite:
                self.seconds, self.found = known["seconds"], known.get("found", {})
                return
        self.check()
        if record.exists():
            self._remove()
        self._save()

    def check(self) -> None:
        """Raise UserError for settings and data that cannot work, before anything is removed or made."""

    @contextmanager
    def step(self, name: str) -> Iterator[bool]:
        """Do a step unless it is done; yields whether to. Its end is noted on disk."""
        start = time.monotonic()
        todo = name not in self.seconds
        yield todo
        if todo:
            self.seconds[name] = round(time.monotonic() - start, 1)
            self._save()

    def note(self, name: str, value: int) -> int:
        """Keep ``value`` for when the demonstration goes on."""
        self.found[name] = value
        self._save()
        return value

    def _save(self) -> None:
        record = {
            "task": self.task,
            "settings": self.settings.to_dict(),
            "seconds": self.seconds,
            "found": self.found,
        }
        write_json(self.out / _RECORD, record)

    def _remove(self) -> None:
        """Remove what a demonstration made, and nothing else; its record goes last."""
        for name in ("runs", *self.made):
            path = self.out / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)
        (self.out / _RECORD).unlink()
