"""What a tuning leaves behind: a table, charts, a page, and the recipe with the winner filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lamella.core.files import replacing, write_text
from lamella.core.tables import csv_text
from lamella.recipe.tune.folder import Tuning, assignment
from lamella.view.report import Headline, Report, Shown

_SHOWN = 100  # rows of the table on the page; trials.csv has all


@dataclass(frozen=True)
class Chart:
    """A chart: its file, its PNG, and what it shows."""

    file: str
    png: bytes
    caption: str


@dataclass(frozen=True)
class Findings:
    """Everything there is to tell of a tuning so far. ``winner`` are the values that go into ``best.yaml``."""

    title: str
    lead: str
    rows: Sequence[Mapping[str, Any]]
    charts: Sequence[Chart]
    winner: Mapping[str, Any] | None
    headlines: Sequence[Headline] = ()
    remarks: Sequence[str] = ()
    order: str = "the best first"
    """How the rows are ordered."""


def write_findings(tuning: Tuning, found: Findings) -> None:
    """Write ``trials.csv``, the charts, ``report.html`` and, once there is a winner, ``best.yaml``; old ones are replaced."""
    write_text(tuning.path / "trials.csv", csv_text([dict(row) for row in found.rows]))
    for chart in found.charts:
        with replacing(tuning.path / chart.file) as beside:
            beside.write_bytes(chart.png)
    if found.winner is not None:
        write_text(tuning.path / "best.yaml", best_recipe(tuning, found))
    _page(tuning, found).write(tuning.path / "report.html")


def best_recipe(tuning: Tuning, found: Findings) -> str:
    """The recipe with the winner, every setting as resolved, under a line that says where it comes from."""
    assert found.winner is not None
    values = tuning.recipe(found.winner).to_dict()
    return f"# {found.title}: {_said(found.winner)}\n" + yaml.safe_dump(values, sort_keys=False)


def conclude(tuning: Tuning, found: Findings) -> None:
    """Tell on the command line what was found and what to do with it."""
    headlines(tuning, found)
    if found.winner is not None:
        print(f"train it with: lamella train {tuning.path / 'best.yaml'} --name tuned")


def headlines(tuning: Tuning, found: Findings) -> None:
    """Tell on the command line what was found."""
    for figure in found.headlines:
        print(f"{figure.name}: {figure.value}" + (f"  ({figure.note})" if figure.note else ""))
    for remark in found.remarks:
        print(remark)
    print(f"report: {tuning.path / 'report.html'}")


def _page(tuning: Tuning, found: Findings) -> Report:
    report = Report(found.title, found.lead)
    report.headlines(found.headlines)
    for remark in found.remarks:
        report.text(remark)
    report.pictures([Shown(chart.png, chart.caption, wide=True) for chart in found.charts])
    if found.winner is not None:
        report.section("The winner", "best.yaml is the recipe with these values filled in; lamella train takes it.")
        report.code(_said(found.winner).replace(" ", "\n"))
    report.section("Trials")
    columns = list(dict.fromkeys(key for row in found.rows for key in row))
    shown = [{key: row.get(key) for key in columns} for row in found.rows[:_SHOWN]]
    report.table(shown, f"{len(found.rows)} rows, all of them in trials.csv, {found.order}.")
    report.provenance({**tuning.facts(), "recipe": tuning.recipe_values()})
    return report


def _said(changes: Mapping[str, Any]) -> str:
    return " ".join(assignment(key, value) for key, value in changes.items())
