"""The numbers of a run as a CSV file: one row per logged step, one column per name, empty where a step has no such number.

A run that was killed may leave rows after its last checkpoint, or half a row. ``keep_until`` drops both, so that the file of a
resumed run is that of an uninterrupted one (but for the columns that measure time).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.core.files import replacing

Row = Mapping[str, int | float | str]


@dataclass(frozen=True)
class Metrics:
    """The file ``path``; its first column is ``step``."""

    path: Path

    def append(self, step: int, values: Row) -> None:
        """Add the row of ``step``; new names become new columns."""
        row = {"step": step, **values}
        columns = self.columns()
        if set(row) <= set(columns):
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, columns).writerow(row)
        else:
            rows: list[Row] = [*self._rows(), row]
            self._write([*columns, *(name for name in row if name not in columns)], rows)

    def columns(self) -> list[str]:
        """Names in the order of the file, empty if there is none."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return next(csv.reader(file), [])

    def read(self) -> list[dict[str, float | str]]:
        """All rows; numbers as floats, empty cells left out."""
        return [{name: _number(text) for name, text in row.items() if text} for row in self._rows()]

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of the rows that have a number under ``name``."""
        points = [(row["step"], row[name]) for row in self.read() if isinstance(row.get(name), float)]
        return [float(step) for step, _ in points], [float(value) for _, value in points]

    def curves(self) -> list[str]:
        """Names of the columns that hold numbers, without ``step``."""
        rows = self.read()
        return [c for c in self.columns() if c != "step" and any(isinstance(row.get(c), float) for row in rows)]

    def keep_until(self, step: int) -> None:
        """Drop the rows after ``step``, and a last row that was cut off in the writing."""
        if self.path.exists():
            self._write(self.columns(), [row for row in self._rows() if int(row["step"]) <= step])

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        return list(csv.DictReader(whole.splitlines()))

    def _write(self, columns: list[str], rows: Sequence[Row]) -> None:
        with replacing(self.path) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
