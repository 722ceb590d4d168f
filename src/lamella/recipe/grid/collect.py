"""The results of a grid: of every head checkpoint the best threshold, in one table; and how far each combination is."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

from lamella.core.errors import UserError
from lamella.core.files import write_json, write_text
from lamella.core.provenance import provenance
from lamella.core.tables import csv_text
from lamella.recipe.grid.plan import Plan
from lamella.recipe.grid.work import HeadPlace, Work
from lamella.recipe.validate.score import FIGURES

INDEX = ("contrastive_comb", "seg_comb", "contrastive_ckpt", "seg_ckpt", "threshold")
TABLE = "table.csv"


@dataclass(frozen=True)
class Collected:
    """A row for each head checkpoint, in order of the index; ``missing`` are heads without a finished validation."""

    rows: list[dict[str, Any]]
    missing: list[str]

    def best(self, figure: str) -> dict[str, Any]:
        """The row that is best in a figure."""
        sign = -1 if figure in ("AP50", "rand_split", "rand_merge") else 1
        return min(self.rows, key=lambda row: sign * row[figure] if row[figure] == row[figure] else float("inf"))


def collect(plan: Plan) -> Collected:
    """Write ``GRID/table.csv`` with the best row of every head checkpoint that is validated, and ``table.json`` with what made it."""
    rows, missing = [], []
    for combination in plan.contrastive:
        work = Work(plan, combination)
        for head in work.heads():
            if work.is_validated(head):
                rows += _rows(work, head)
            else:
                missing.append(f"{combination.name}/seg/{head.seg.name}/{head.checkpoint}")
    if not rows:
        raise UserError(f"nothing of {plan.path} is validated yet; run the grid first: lamella grid run")
    write_text(plan.path / TABLE, csv_text(rows))
    write_json(plan.path / "table.json", {"missing": missing, "grid": plan.contents, **provenance()})
    return Collected(rows, missing)


def _rows(work: Work, head: HeadPlace) -> list[dict[str, Any]]:
    """The best row of each checkpoint of a head."""
    with (head.validation / "best.csv").open(newline="") as file:
        found = sorted(csv.DictReader(file), key=lambda row: row["checkpoint"])
    varied = {**_short(work.combination.varied), **_short(head.seg.varied)}
    return [
        {
            "contrastive_comb": work.combination.number,
            "seg_comb": head.seg.number,
            "contrastive_ckpt": head.checkpoint,
            "seg_ckpt": row["checkpoint"],
            "threshold": float(row["threshold"]),
            **{name: _number(row[name]) for name in FIGURES},
            "reads": head.seg.reads,
            **varied,
        }
        for row in found
    ]


def _short(varied: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, list | dict) else value for key, value in varied.items()}


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def status_rows(plan: Plan) -> list[dict[str, Any]]:
    """Of each combination its number, what is varied, its state, how many heads are done, and why it failed."""
    rows = []
    for combination in plan.contrastive:
        work = Work(plan, combination)
        heads = work.heads()
        done = sum(work.is_headed(head) for head in heads)
        total = str(len(heads)) if heads else "?"
        rows.append(
            {
                "combination": combination.number,
                "state": work.state(),
                "heads": f"{done}/{total}",
                "varied": combination.told() or "-",
                "failure": work.failure(),
            }
        )
    return rows
