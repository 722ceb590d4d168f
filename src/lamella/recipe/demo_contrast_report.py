"""The page of ``lamella demo contrast``: what was learnt without labels, what a few points make of it, and how to do the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lamella.core.provenance import provenance
from lamella.ops.matching import IGNORED
from lamella.ops.principal import principal
from lamella.recipe.demo_contrast import POINTS, ContrastDemo, Strip
from lamella.recipe.study.report import NAMES
from lamella.recipe.study.results import Results
from lamella.view import charts, labels, pictures
from lamella.view.pictures import Picture
from lamella.view.report import Headline, Report, Shown

_SIDE = 256  # px shown of an image

COMMANDS = """lamella demo contrast --data cells/                             # the same on a folder of your labelled images
lamella train contrast data.sources.0.path=cells/ --name first  # or step by step: a net learns from images alone,
lamella embed first cells/ embedded                             # every voxel gets its embedding,
lamella prep points cells/ points.csv --total 100               # a few points are drawn (or written by hand),
lamella train head_points data.sources.0.path=embedded data.points=points.csv --name head
lamella predict head new/ --output predicted"""


def write_demo_report(demo: ContrastDemo, results: Results, strips: Sequence[Strip]) -> None:
    """Write the page."""
    report = Report("lamella: cells from a hundred points", _lead(demo))
    report.headlines([*headlines(results), *_times(demo)])
    _add_pictures(report, strips)
    _add_scores(report, results)
    _add_training(report, results)
    report.section("With your own images", "These commands do to your images what was done here.")
    report.code(COMMANDS)
    report.provenance(
        provenance(settings=demo.settings.to_dict(), seconds=demo.seconds, study=results.study.config.to_dict())
    )
    report.write(demo.report)


def headlines(results: Results) -> list[Headline]:
    """The score of each method on images that it never saw."""
    notes = {
        "embedding": f"head on embeddings, {POINTS} points",
        "scratch": f"the same net trained from the {POINTS} points alone",
        "pixels": "the same head on intensities",
        "forest": "a forest on features of several scales",
    }
    return [Headline(NAMES[row["method"]], f"AP {row['test']:.3f}", notes[row["method"]]) for row in results.table()]


def _lead(demo: ContrastDemo) -> str:
    split = {part: len(pairs) for part, pairs in demo.split().items()}
    what = "synthetic nuclei, of which many touch" if demo.is_synthetic else f"images of {demo.settings.data}"
    return (
        f"A net learnt from {split['train']} {what}, without labels, to tell places apart. {POINTS} points of background, insides of "
        f"cells and their boundaries then trained a small head. {split['val']} images chose the threshold, {split['test']} others are "
        "scored: AP at IoU 0.5."
    )


def _times(demo: ContrastDemo) -> list[Headline]:
    total = sum(demo.seconds.values())
    note = ", ".join(f"{name} {seconds:.0f}" for name, seconds in demo.seconds.items())
    return [Headline("time", f"{total / 60:.1f} min", f"seconds: {note}")]


def _add_pictures(report: Report, strips: Sequence[Strip]) -> None:
    methods = list(strips[0].objects)
    report.section(
        "What was found",
        "Left to right: the image; its embeddings in colours, places that the net finds alike in like ones; the true objects; then "
        f"what came of the same points with each method: {', '.join(NAMES[m] for m in methods)}. Green outlines match the truth "
        "(white), missed objects are filled with orange, false ones with magenta.",
    )
    sample = np.concatenate([s.embedding.reshape(len(s.embedding), -1)[:, ::7].T for s in strips])
    components = principal(sample)
    for strip in strips:
        shown = pictures.grey(strip.image, missing=None)
        parts = [
            shown,
            components.colours(strip.embedding),
            labels.colours(np.where(strip.truth == IGNORED, 0, strip.truth)),
        ]
        parts += [labels.difference(shown, strip.truth, strip.objects[m]) for m in methods]
        report.pictures([Shown(pictures.png(pictures.beside([_cut(p) for p in parts])), strip.name, wide=True)])


def _cut(picture: Picture) -> Picture:
    """The middle of a large picture."""
    y, x = (max((n - _SIDE) // 2, 0) for n in picture.shape[:2])
    return picture[y : y + _SIDE, x : x + _SIDE]


def _add_scores(report: Report, results: Results) -> None:
    report.section(
        "Scores and times",
        "CPU seconds once there are points, of the look that was chosen, and before: the embedding is trained once, for all points that "
        "will ever be set.",
    )
    rows = []
    for row in results.rows:
        look = next(each for each in row["looks"] if each["look"] == row["look"])
        figures = {"AP at IoU 0.5": row["test"], "on validation": row["validation"], "seconds": look["seconds"]}
        rows.append({"method": NAMES[row["method"]], **figures, "seconds before": row["prepared"], "look": row["look"]})
    report.table(rows)


def _add_training(report: Report, results: Results) -> None:
    from lamella.runs import RunFolder

    run = RunFolder(results.study.nets / "contrast-0")
    steps, total = run.metrics.curve("train/total")
    _, spread = run.metrics.curve("train/spread")
    report.section(
        "Training without labels", "The loss, and how far embeddings differ: near 0 they would have collapsed."
    )
    report.pictures(
        [
            Shown(charts.lines(steps, {"loss": total}, "step", "loss")),
            Shown(charts.lines(steps, {"spread": spread}, "step", "spread")),
        ]
    )
