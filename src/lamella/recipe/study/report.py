"""The page of a study: scores against points, scores against time, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lamella.core.provenance import provenance
from lamella.recipe.study.results import Results, Row
from lamella.view.charts import COLOURS, chart
from lamella.view.report import Headline, Report, Shown

NAMES = {
    "embedding": "embedding with head",
    "scratch": "end to end",
    "tuned": "end to end from the embedding",
    "pixels": "head on pixels",
    "forest": "random forest",
}
_FIGURES = {"AP50": "AP at IoU 0.5", "voi_sum": "VOI, lower is better"}


def write_page(results: Results) -> None:
    """Write ``report.html`` into the study's folder."""
    config = results.study.config
    report = Report("lamella: what embeddings are worth", _lead(results))
    report.headlines(headlines(results))
    report.section(
        "Accuracy",
        "Scores of the test images, which nothing was chosen on, against the number of points. Lines are means over seeds, bands one "
        "standard deviation to either side.",
    )
    report.pictures([Shown(_accuracy(results), wide=True)])
    report.table([{**row, "method": NAMES[row["method"]]} for row in results.summary()])
    if margins := results.margins():
        report.section("The embedding beside the best other method", "Spread: the deviations of both, together.")
        report.table([{**row, "best other": NAMES[row["best other"]]} for row in margins])
    report.section(
        "Training time",
        "Scores of the validation images against CPU seconds of training once there are points. What an embedding takes before, once "
        "for all points, is in the last column.",
    )
    curves = [_speed(results, number) for number in config.points]
    report.pictures([Shown(png, f"{number} points") for number, png in zip(config.points, curves, strict=True) if png])
    report.table(results.speeds())
    report.provenance(provenance(study=config.to_dict(), cells=len(results.rows)))
    report.write(results.study.path / "report.html")


def headlines(results: Results) -> list[Headline]:
    """For each number of points the embedding's score beside that of the best other method."""
    own = {row["points"]: row for row in results.summary() if row["method"] == "embedding"}
    shown = []
    for row in results.margins():
        mean = own[row["points"]]["mean"]
        other = mean - row["gain"] * (1 if results.larger else -1)
        shown.append(Headline(f"{row['points']} points", f"{mean:.3f}", f"{NAMES[row['best other']]} {other:.3f}"))
    return shown


def _lead(results: Results) -> str:
    config = results.study.config
    left = results.total - len(results.rows)
    unfinished = f" {left} of {results.total} cells are not done yet." if left else ""
    return (
        f"{_FIGURES[config.figure]} of {config.test.path}, learnt from {', '.join(map(str, config.points))} points of "
        f"{config.train.path}, with {config.seeds} seeds.{unfinished}"
    )


def _accuracy(results: Results) -> bytes:
    with chart("points", _FIGURES[results.study.config.figure]) as (axes, made):
        for colour, (method, rows) in zip(COLOURS, _by_method(results).items(), strict=False):
            x, mean, deviation = (
                np.array([row[key] for row in rows], float) for key in ("points", "mean", "deviation")
            )
            deviation = np.nan_to_num(deviation)
            axes.plot(x, mean, color=colour, label=NAMES[method], linewidth=1.5, marker="o", markersize=3)
            axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.18, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(results.study.config.points, [str(n) for n in results.study.config.points])
        axes.minorticks_off()
    return made[0]


def _by_method(results: Results) -> Mapping[str, Sequence[Row]]:
    rows = results.summary()
    found = {m: [row for row in rows if row["method"] == m] for m in results.study.config.methods}
    return {method: own for method, own in found.items() if own}


def _speed(results: Results, number: int) -> bytes | None:
    curves = {m: results.curve(m, number) for m in results.study.config.methods}
    if not any(curves.values()):
        return None
    with chart("CPU seconds", _FIGURES[results.study.config.figure], (4.6, 2.8)) as (axes, made):
        for colour, (method, curve) in zip(COLOURS, curves.items(), strict=False):
            if curve is not None:
                axes.plot(
                    curve.seconds,
                    curve.scores,
                    color=colour,
                    label=NAMES[method],
                    marker="o",
                    markersize=3,
                    linewidth=1.5,
                )
        axes.set_xscale("log")
    return made[0]
