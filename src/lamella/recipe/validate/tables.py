"""What a validation found: a row for each checkpoint, sample and threshold, their means over samples, and the best of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.recipe.validate.score import FIGURES
from lamella.recipe.validate.settings import ValidateSettings

Row = dict[str, Any]


@dataclass(frozen=True)
class Validation:
    """The rows of all samples, in order."""

    rows: tuple[Row, ...]
    settings: ValidateSettings

    @property
    def checkpoints(self) -> list[str]:
        return list(dict.fromkeys(row["checkpoint"] for row in self.rows))

    @property
    def samples(self) -> list[str]:
        return list(dict.fromkeys(row["sample"] for row in self.rows))

    def means(self) -> list[Row]:
        """A row for each checkpoint and threshold; of each figure the mean over the samples in which it is known."""
        keys = dict.fromkeys((row["checkpoint"], row["threshold"]) for row in self.rows)
        return [self._mean(checkpoint, threshold) for checkpoint, threshold in keys]

    def best(self) -> list[Row]:
        """The best row of each checkpoint, the best checkpoint first; of equal ones the lower threshold."""
        means = self.means()
        found = [min((m for m in means if m["checkpoint"] == name), key=self._badness) for name in self.checkpoints]
        return sorted(found, key=self._badness)

    def spread(self, checkpoint: str, figure: str) -> list[tuple[float, float]]:
        """Of each threshold the least and the largest value of any sample."""
        levels = dict.fromkeys(row["threshold"] for row in self.rows)
        values = [[v for v in self._values(checkpoint, level, figure) if math.isfinite(v)] for level in levels]
        return [(min(v), max(v)) if v else (math.nan, math.nan) for v in values]

    def _mean(self, checkpoint: str, threshold: float) -> Row:
        of = {name: _mean(self._values(checkpoint, threshold, name)) for name in FIGURES}
        sums = {name: int(sum(self._values(checkpoint, threshold, name))) for name in ("true", "predicted")}
        return {"checkpoint": checkpoint, "threshold": threshold, **of, **sums, "samples": len(self.samples)}

    def _values(self, checkpoint: str, threshold: float, name: str) -> list[float]:
        rows = [r for r in self.rows if (r["checkpoint"], r["threshold"]) == (checkpoint, threshold)]
        return [math.nan if row[name] is None else float(row[name]) for row in rows]

    def _badness(self, row: Row) -> tuple[bool, float]:
        """By which rows are ordered, the best first; those without a value last."""
        value = row[self.settings.best] * (-1 if self.settings.best == "AP50" else 1)
        return math.isnan(value), value


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan
