"""Running a study: every cell, a method with a seed and a number of points, is recorded by itself.

```
OUT/
    study.json                      what was asked for
    points/seed-0.csv               the points of a seed; k points are its first k
    nets/contrast-0/                the contrast run of a seed
    nets/scratch-0-20/              the run end to end of a seed and a number of points; tuned-0-20 from the contrast run
    cells/embedding/seed-0/20.json  what came of it
    table.csv, summary.csv, times.csv, report.html
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from lamella.blockwise.ledger import differences
from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.progress import progress
from lamella.core.provenance import provenance
from lamella.data.points_table import read_points, write_points
from lamella.recipe.study.config import StudyConfig, Way
from lamella.recipe.study.images import Sets, points_of
from lamella.recipe.study.methods import Look, learner_of
from lamella.recipe.study.recipes import check_recipes, normaliser_of
from lamella.recipe.study.score import Scorer
from lamella.recipe.tune.crew import each, say

_RECORD = "study.json"
_MADE = ("points", "nets", "cells")


@dataclass(frozen=True)
class Cell:
    """A method with a seed and a number of points, and where what came of it is recorded."""

    method: str
    seed: int
    number: int
    path: Path

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found


@dataclass(frozen=True)
class Study:
    """A study and its folder."""

    config: StudyConfig
    path: Path

    def cells(self) -> list[Cell]:
        """All cells, those of a method together."""
        return [
            Cell(method, seed, number, self.path / "cells" / method / f"seed-{seed}" / f"{number}.json")
            for method in self.config.methods
            for seed in range(self.config.seeds)
            for number in self.config.points
        ]

    def points(self, seed: int) -> Path:
        """The file of a seed's points."""
        return self.path / "points" / f"seed-{seed}.csv"

    @property
    def nets(self) -> Path:
        return self.path / "nets"


@dataclass(frozen=True)
class Work:
    """What is left to do of a method with a seed. Picklable; calling it does that, and returns how many cells it did."""

    study: Study
    method: str
    seed: int

    def cells(self) -> list[Cell]:
        own = [c for c in self.study.cells() if (c.method, c.seed) == (self.method, self.seed)]
        return [cell for cell in own if not cell.path.exists()]

    def __call__(self) -> int:
        left = self.cells()
        if not left:
            return 0
        config = self.study.config
        sets = Sets.open(config, normaliser_of(config))
        images = {image.name: image for image in sets.train}
        learner = learner_of(self.method, config, self.seed, images, self.study.nets)
        table = read_points(self.study.points(self.seed))
        validation, test = Scorer(config, sets.validation), Scorer(config, sets.test)
        for cell in left:
            looks = [_looked(look, validation, config) for look in learner.looks(table, cell.number)]
            best = _best(looks, config)
            (score,) = test.figures(best.look.maps, [best.way])
            row = {"method": self.method, "seed": self.seed, "points": cell.number, "figure": config.figure}
            chosen = {"look": best.look.name, **best.told(), "validation": best.score, "test": score}
            times = {"prepared": learner.prepared, "looks": [looked.record() for looked in looks]}
            write_json(cell.path, {**row, **chosen, **times})
            say(f"{self.method}, seed {self.seed}, {cell.number} points: {config.figure} {score:.3f}")
        return len(left)


@dataclass(frozen=True)
class _Looked:
    """A look with the way of making objects that is best on the validation images."""

    look: Look
    way: Way
    score: float

    def told(self) -> dict[str, Any]:
        return {"objects": self.way.number, "threshold": self.way.threshold}

    def record(self) -> dict[str, Any]:
        return {
            "look": self.look.name,
            "seconds": self.look.seconds,
            **self.told(),
            "validation": self.score,
        }


def _looked(look: Look, validation: Scorer, config: StudyConfig) -> _Looked:
    scores = validation.figures(look.maps, config.ways)
    way, score = min(zip(config.ways, scores, strict=True), key=lambda pair: _cost(pair[1], config))
    return _Looked(look, way, score)


def _best(looks: list[_Looked], config: StudyConfig) -> _Looked:
    """The first of the best."""
    return min(looks, key=lambda looked: _cost(looked.score, config))


def _cost(score: float, config: StudyConfig) -> float:
    if np.isnan(score):
        return float("inf")
    return -score if config.is_better_larger else score


def begin_study(config: StudyConfig, out: Path, *, overwrite: bool = False) -> Study:
    """Check everything that can be checked, draw the points, and note what was asked for; or go on with what is there.

    Raises UserError for recipes and images that do not fit, for sets that share voxels, and for a folder that holds anything else.
    """
    study, record = Study(config, out), out / _RECORD
    asked = json.loads(json.dumps(config.lasting()))
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not record.exists():
        raise UserError(f"output {out} exists and is no study; choose another")
    known = json.loads(record.read_text())["asked"] if record.exists() else None
    if known is not None and known != asked and not overwrite:
        changed = "; ".join(differences(known, asked))
        raise UserError(f"output {out} was begun with other settings ({changed}); choose another, or add --overwrite")
    check_recipes(config)
    sets = Sets.open(config, normaliser_of(config))
    tables = [points_of(sets.train, config, seed) for seed in range(config.seeds)]
    if overwrite and record.exists():
        for name in _MADE:
            shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    write_json(record, {"asked": asked, "study": config.to_dict(), **provenance()})
    for seed, table in enumerate(tables):
        if not study.points(seed).exists():
            write_points(study.points(seed), table)
    return study


def run_study(study: Study, *, jobs: int = 1) -> int:
    """Do what is left, ``jobs`` methods and seeds at once; returns how many cells were done now."""
    works = [Work(study, m, seed) for m in study.config.methods for seed in range(study.config.seeds)]
    left = [work for work in works if work.cells()]
    with _alone(study.path), progress("study", len(left), "methods with a seed") as meter:
        done = 0
        for number in each(_do, left, jobs, study.path / "log.txt"):
            done += number
            meter.advance()
    return done


def _do(work: Work) -> int:
    return work()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One command at a time works on a study."""
    try:
        with FileLock(path / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"another process is at work on {path}; wait for it or stop it") from None


def finished(study: Study) -> Iterator[dict[str, Any]]:
    """What is recorded of the study's cells, in order."""
    for cell in study.cells():
        if cell.path.exists():
            yield cell.read()
