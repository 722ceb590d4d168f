"""What a study found: tables of scores and of times.

``table.csv`` and ``summary.csv`` follow from the settings alone, so a study that was killed and went on ends with the same bytes.
``times.csv`` holds what was measured on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.core.errors import UserError
from lamella.core.files import write_text
from lamella.core.tables import csv_text
from lamella.recipe.study.run import Study, finished

Row = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """How a method learns from a number of points: at each look the mean CPU seconds and validation score over seeds."""

    method: str
    number: int
    seconds: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Results:
    """The cells of a study that are done, and how many there are to be."""

    study: Study
    rows: tuple[Row, ...]
    total: int

    @classmethod
    def of(cls, study: Study) -> Results:
        rows = tuple(finished(study))
        if not rows:
            raise UserError(
                f"nothing of {study.path} is done yet; run the study first: lamella study RECIPE {study.path}"
            )
        return cls(study, rows, len(study.cells()))

    @property
    def larger(self) -> bool:
        """Whether a larger figure is the better one."""
        return self.study.config.is_better_larger

    def of_cell(self, method: str, number: int) -> list[Row]:
        """The rows of all seeds."""
        return [row for row in self.rows if (row["method"], row["points"]) == (method, number)]

    def table(self) -> list[Row]:
        """A row for each cell."""
        several = len(self.study.config.objects) > 1
        kept = (
            "method",
            "points",
            "seed",
            "test",
            "validation",
            "look",
            *(("objects",) if several else ()),
            "threshold",
        )
        return [{"figure": row["figure"], **{key: row[key] for key in kept}} for row in self.rows]

    def summary(self) -> list[Row]:
        """A row for each method and number of points: mean, deviation and extremes of the test score over seeds."""
        found = []
        for method in self.study.config.methods:
            for number in self.study.config.points:
                if scores := [row["test"] for row in self.of_cell(method, number)]:
                    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else float("nan")
                    figures = {
                        "mean": float(np.mean(scores)),
                        "deviation": spread,
                        "lowest": min(scores),
                        "highest": max(scores),
                    }
                    found.append({"method": method, "points": number, "seeds": len(scores), **figures})
        return found

    def times(self) -> list[Row]:
        """A row for each look of each cell: CPU seconds of learning, and of what was prepared before there were points."""
        return [
            {
                **{key: row[key] for key in ("method", "points", "seed")},
                **{key: look[key] for key in ("look", "seconds", "validation", "threshold")},
                "prepared": row["prepared"],
            }
            for row in self.rows
            for look in row["looks"]
        ]

    def curve(self, method: str, number: int) -> Curve | None:
        """The looks of all seeds, averaged; None if there are none."""
        rows = self.of_cell(method, number)
        if not rows:
            return None
        looks = [row["looks"] for row in rows]
        seconds = [float(np.mean([each[k]["seconds"] for each in looks])) for k in range(len(looks[0]))]
        scores = [float(np.mean([each[k]["validation"] for each in looks])) for k in range(len(looks[0]))]
        return Curve(method, number, tuple(seconds), tuple(scores))

    def margins(self) -> list[Row]:
        """For each number of points: by how much the embedding is better than the best other method, in the paired seeds.

        ``beyond spread``: the mean difference is larger than the deviations of both together (root of their summed squares).
        """
        found = []
        for number in self.study.config.points:
            own = {row["seed"]: row["test"] for row in self.of_cell("embedding", number)}
            others = {m: {r["seed"]: r["test"] for r in self.of_cell(m, number)} for m in self.study.config.methods}
            others = {m: scores for m, scores in others.items() if m != "embedding" and scores}
            if not own or not others:
                continue
            best = max(others, key=lambda m: self._gain(list(others[m].values())))
            gain = self._gain(list(own.values())) - self._gain(list(others[best].values()))
            spread = float(np.hypot(_deviation(own.values()), _deviation(others[best].values())))
            found.append(
                {"points": number, "best other": best, "gain": gain, "spread": spread, "beyond spread": gain > spread}
            )
        return found

    def speeds(self) -> list[Row]:
        """For each number of points: the seconds in which training end to end reaches its best validation score, and the embedding's
        head the same score."""
        found = []
        for number in self.study.config.points:
            slow, fast = self.curve("scratch", number), self.curve("embedding", number)
            if slow is None or fast is None:
                continue
            best = max(range(len(slow.scores)), key=lambda k: (self._gain([slow.scores[k]]), -k))
            reached = [
                s
                for s, v in zip(fast.seconds, fast.scores, strict=True)
                if self._gain([v]) >= self._gain([slow.scores[best]])
            ]
            prepared = float(np.mean([row["prepared"] for row in self.of_cell("embedding", number)]))
            found.append(
                {
                    "points": number,
                    "end to end": slow.seconds[best],
                    "score": slow.scores[best],
                    "embedding": min(reached, default=float("nan")),
                    "share": min(reached, default=float("nan")) / slow.seconds[best],
                    "prepared": prepared,
                }
            )
        return found

    def _gain(self, scores: Sequence[float]) -> float:
        """The mean score, of which more is better."""
        return float(np.mean(scores)) * (1 if self.larger else -1)

    def write(self) -> None:
        """Write the three tables."""
        for name, rows in (("table", self.table()), ("summary", self.summary()), ("times", self.times())):
            write_text(self.study.path / f"{name}.csv", csv_text(rows))


def _deviation(scores: Any) -> float:
    values = list(scores)
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
