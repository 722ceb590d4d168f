"""Run folders: everything about one training, enough to rerun it, to resume it, and to use what it learnt.

```
runs/NAME/
    recipe.yaml        every setting as resolved, defaults included
    provenance.json    seed, versions, git commit, command, parent run and checkpoint, state
    metrics.csv        numbers by step
    tensorboard/       the same, and pictures, as TensorBoard events
    checkpoints/       last.ckpt and best.ckpt: weights, optimiser, progress
    panels/            pictures by step
    scores/            one JSON file per evaluation
```

Names are unique within a folder of runs; nothing is replaced unless asked.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from lamella.core.config import read_yaml
from lamella.core.errors import UserError
from lamella.core.files import replacing, write_json
from lamella.core.provenance import provenance
from lamella.runs.metrics import Metrics

_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class RunFolder:
    """One run. ``create`` makes it, ``open`` finds it."""

    path: Path

    @classmethod
    def create(
        cls, name: str, recipe: Mapping[str, Any], *, runs: str | Path = "runs", overwrite: bool = False, **facts: Any
    ) -> RunFolder:
        """A new run folder with its recipe and a record of its making, to which ``facts`` (seed, parent) are added.

        Raises UserError if the name is in use (unless ``overwrite``, which removes the old run) or cannot be one.
        """
        check_name(name, runs, overwrite=overwrite)
        path = Path(runs) / name
        with replacing(path) as beside:
            beside.mkdir()
            (beside / "recipe.yaml").write_text(yaml.safe_dump(dict(recipe), sort_keys=False))
            write_json(beside / "provenance.json", provenance(name=name, **facts))
            for folder in ("checkpoints", "panels", "scores", "tensorboard"):
                (beside / folder).mkdir()
            if path.exists():
                with cls(path).locked():
                    shutil.rmtree(path)
        return cls(path)

    @classmethod
    def open(cls, run: str | Path, runs: str | Path = "runs") -> RunFolder:
        """The run of this path, or of this name in ``runs``."""
        for path in (Path(run), Path(runs) / run):
            if is_run(path):
                return cls(path)
        known = [folder.name for folder in list_runs(runs)]
        near = difflib.get_close_matches(Path(run).name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'no runs'} in {runs}"
        raise UserError(f"no run {str(run)!r}: neither that path nor {Path(runs) / run} holds one; {hint}")

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def metrics(self) -> Metrics:
        return Metrics(self.path / "metrics.csv")

    def recipe(self) -> dict[str, Any]:
        """The recipe as plain values."""
        return read_yaml(self.path / "recipe.yaml")

    def provenance(self) -> dict[str, Any]:
        """The record of the run's making, with what ``record`` added."""
        return json.loads((self.path / "provenance.json").read_text())

    def record(self, **facts: Any) -> None:
        """Add facts to the provenance, replacing those of the same name."""
        write_json(self.path / "provenance.json", {**self.provenance(), **facts})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training into this run; the system drops the lock of a killed one."""
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise UserError(f"another process is training run {self.name!r}; wait for it or stop it") from None

    def state(self) -> str:
        """``new``, ``running``, ``killed``, ``finished``, ``stopped`` or ``failed``."""
        state = self.provenance().get("state", "new")
        if state != "running" or not (self.path / ".lock").exists():
            return state
        try:
            with self.locked():
                return "killed"
        except UserError:
            return "running"

    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that are there."""
        return sorted(path.stem for path in (self.path / "checkpoints").glob("[!.]*.ckpt"))

    def checkpoint(self, name: str = "last") -> Path:
        """Path of a checkpoint, which must be there."""
        if name not in self.checkpoints():
            there = ", ".join(self.checkpoints()) or "none yet"
            raise UserError(f"run {self.name!r} has no checkpoint {name!r}; it has {there}")
        return self.checkpoint_path(name)

    def checkpoint_path(self, name: str) -> Path:
        """Where a checkpoint of this name is or would be."""
        return self.path / "checkpoints" / f"{name}.ckpt"

    def score(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep the result of an evaluation with the run."""
        write_json(self.path / "scores" / f"{name}.json", dict(values))

    def scores(self) -> dict[str, dict[str, Any]]:
        """Results of evaluations by name."""
        return {path.stem: json.loads(path.read_text()) for path in sorted((self.path / "scores").glob("[!.]*.json"))}

    def parent(self) -> dict[str, Any] | None:
        """What the run started from: ``name``, ``path`` (relative to this folder), ``checkpoint``; None if from scratch."""
        return self.provenance().get("parent")

    def parent_record(self, parent: RunFolder) -> str:
        """The path of ``parent`` as a run beside this one should note it, so that both can be moved together."""
        return os.path.relpath(parent.path.resolve(), self.path.resolve())


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return (path / "recipe.yaml").is_file() and (path / "provenance.json").is_file()


def list_runs(runs: str | Path = "runs") -> list[RunFolder]:
    """All runs in a folder, oldest first."""
    folders = [RunFolder(path) for path in Path(runs).glob("[!.]*") if is_run(path)]
    return sorted(folders, key=lambda folder: (folder.provenance()["time"], folder.name))


def check_name(name: str, runs: str | Path, *, overwrite: bool) -> None:
    """Refuse a name that is in use or that a folder cannot have."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"run name {name!r} must be letters, digits and any of _ . + -, beginning with a letter or digit"
        )
    path = Path(runs) / name
    if not path.exists():
        return
    if not is_run(path):
        raise UserError(f"{path} exists and is no run; choose another --name or --runs")
    if not overwrite:
        raise UserError(
            f"run {name!r} exists in {runs}; choose another --name, go on with it by --resume, or replace it by --overwrite"
        )
