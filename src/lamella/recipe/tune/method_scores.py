"""Scores of many settings on cached maps. Sums are kept, so that images can be added up in any selection.

A *unit* is what instances are made of at once: a section for a 2D net, a volume for a 3D one. Work is cut into jobs of one unit and
some settings; what a job finds is a file of its own, so a killed tuning goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.files import replacing
from lamella.core.progress import progress
from lamella.ops.matching import Overlaps
from lamella.ops.matching_scores import ObjectScores, compare
from lamella.recipe.tune.candidates import Values, config
from lamella.recipe.tune.crew import each
from lamella.recipe.tune.settings import Score

_PER_JOB = 16  # settings for one reading of the maps
_AT_75 = 5  # the place of IoU 0.75 among the thresholds


@dataclass(frozen=True)
class Unit:
    """Maps (k, *space) and truth (*space, IGNORED where nothing counts) of one section or volume, as files of arrays."""

    name: str
    maps: Path
    truth: Path
    names: tuple[str, ...]
    voxel_size: tuple[float, ...] | None


@dataclass(frozen=True)
class Sums:
    """What the scores of a unit are made of: ``counts`` int64 (thresholds, 3) of TP, FP, FN; ``quality`` the sum of the IoU
    of pairs above 0.5, the sum of each true object's best IoU if that is above 0.5, and the number of true objects."""

    counts: NDArray[np.int64]
    quality: NDArray[np.float64]

    @classmethod
    def of(cls, truth: NDArray[Any], found: NDArray[Any]) -> Sums:
        scores = ObjectScores.of(compare(Overlaps.of(truth, found)))
        best = scores.best[scores.best > 0.5].sum()
        return cls(scores.counts, np.array([scores.panoptic[1], best, len(scores.best)]))


def score_of(units: Sequence[Sums], score: Score) -> float:
    """The score of some units together, 0 where there is nothing to count.

    >>> a = Sums(np.tile([3, 1, 0], (10, 1)), np.array([2.4, 2.4, 3]))
    >>> score_of([a], "AP50"), round(score_of([a], "PQ"), 3)
    (0.75, 0.686)
    """
    if score.endswith("_img"):
        plain: Any = score.removesuffix("_img")
        return float(np.mean([score_of([unit], plain) for unit in units]))
    counts = np.sum([unit.counts for unit in units], axis=0)
    total, best, true = np.sum([unit.quality for unit in units], axis=0)
    tp, fp, fn = counts[0]
    ap = counts[:, 0] / np.maximum(counts.sum(axis=1), 1)
    values: Mapping[str, float] = {
        "AP50": ap[0],
        "AP75": ap[_AT_75],
        "mAP": ap.mean(),
        "F1": 2 * tp / max(2 * tp + fp + fn, 1),
        "PQ": total / max((2 * tp + fp + fn) / 2, 1),
        "SEG": best / max(true, 1),
    }
    return float(values[score])


@dataclass(frozen=True)
class _Job:
    unit: Unit
    values: tuple[Values, ...]
    file: Path

    def __call__(self) -> None:
        maps, truth = np.load(self.unit.maps), np.load(self.unit.truth)
        named = dict(zip(self.unit.names, maps, strict=True))
        found = []
        for values in self.values:
            method = config(values).build()
            found.append(Sums.of(truth, method(named, self.unit.voxel_size)))
        with replacing(self.file) as beside:
            np.savez(beside, counts=[s.counts for s in found], quality=[s.quality for s in found])

    def load(self) -> list[Sums]:
        with np.load(self.file) as stored:
            return [Sums(c, q) for c, q in zip(stored["counts"], stored["quality"], strict=True)]


def score_all(units: Sequence[Unit], values: Sequence[Values], folder: Path, jobs: int) -> list[list[Sums]]:
    """The sums of every setting on every unit: a list for each setting, in the order of ``units``. Those in ``folder`` are read."""
    parts = [tuple(values[k : k + _PER_JOB]) for k in range(0, len(values), _PER_JOB)]
    work = [
        [_Job(unit, part, folder / f"{k:05d}_{n:03d}.npz") for n, part in enumerate(parts)]
        for k, unit in enumerate(units)
    ]
    left = [job for row in work for job in row if not job.file.exists()]
    with progress(f"instances, {folder.name}", sum(len(job.values) for job in left), "settings") as meter:
        for count in each(_do, left, jobs, folder.parent / "log.txt"):
            meter.advance(count)
    by_unit = [[sums for job in row for sums in job.load()] for row in work]
    return [list(sums) for sums in zip(*by_unit, strict=True)]


def _do(job: _Job) -> int:
    job()
    return len(job.values)
