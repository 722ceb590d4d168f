"""The page of ``lamella demo segment``: what went in, what came out, and what to do with one's own images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from lamella.core.provenance import provenance
from lamella.ops.matching import ignoring
from lamella.recipe.demo_segment import Compared, SegmentDemo
from lamella.runs import RunFolder
from lamella.tasks.segment.evaluate import ImageScores, InstanceEvaluation
from lamella.tasks.segment.evaluation_report import add_evaluation
from lamella.view import charts, labels, pictures
from lamella.view.pictures import Picture
from lamella.view.report import Headline, Report, Shown

_SIDE = 384  # px shown of an image
_STRIPS = 4
_LOSSES = {"loss": "total", "objects": "objects", "boundaries": "boundaries", "distance": "distance"}
_SCORES = {
    "AP at IoU 0.5": "ap50",
    "overlap of objects": "object_iou",
    "overlap of boundaries": "boundary_iou",
}

COMMANDS = """lamella demo segment --data cells/                              # the same on a folder of your labelled images
lamella train segment data.sources.0.path=cells/ --name cells   # or step by step: training (better for an hour than for minutes),
lamella predict cells new/ --output predicted --plot            # predicting,
lamella evaluate instances predicted/ labels/ scores --images new/"""


def write_demo_report(demo: SegmentDemo, found: Compared) -> None:
    """Write the page."""
    report = Report("lamella: cells found", _lead(demo))
    report.headlines([*headlines(found), *_times(demo)])
    _add_pictures(report, found)
    if demo.is_synthetic:
        _add_densities(report, found)
    _add_training(report, demo.run)
    add_evaluation(report, found.net)
    report.section("With your own images", "These commands do to your images what was done here.")
    report.code(COMMANDS)
    report.provenance(provenance(settings=demo.settings.to_dict(), seconds=demo.seconds, recipe=demo.run.recipe()))
    report.write(demo.report)


def headlines(found: Compared) -> list[Headline]:
    """The net beside what a threshold and a watershed do without training."""
    net, otsu = found.net.figures(), found.otsu.figures()
    shown = [("AP at IoU 0.5", "AP50_pool"), ("AP at IoU 0.75", "AP75_pool"), ("mean AP", "mAP_pool"), ("F1", "F1_50")]
    cards = [Headline(name, f"{net[key]:.3f}", f"threshold and watershed {otsu[key]:.3f}") for name, key in shown]
    counted = f"of {net['true']} nuclei; threshold and watershed {otsu['predicted']}"
    return [*cards, Headline("objects found", str(net["predicted"]), counted)]


def _lead(demo: SegmentDemo) -> str:
    split = {part: len(pairs) for part, pairs in demo.split().items()}
    counts = f"{split['train']} images to learn from, {split['test']} others to score on"
    if demo.settings.data is not None:
        return f"{counts}, of {demo.settings.data}. A net was trained from scratch and compared with a threshold and a watershed."
    return (
        f"{counts}: synthetic nuclei, sparse and dense, of which many touch, in light that falls off to one side, with haze, "
        "noise and debris. Some lie in heaps that nobody could annotate; those have the label 1, which counts for nothing. A net "
        "was trained from scratch and compared with a threshold (Otsu) and a watershed."
    )


def _times(demo: SegmentDemo) -> list[Headline]:
    total = sum(demo.seconds.values())
    note = ", ".join(f"{name} {seconds:.0f}" for name, seconds in demo.seconds.items())
    return [Headline("time", f"{total / 60:.1f} min", f"seconds: {note}")]


def _add_pictures(report: Report, found: Compared) -> None:
    report.section(
        "What was found",
        "Left to right: the image; its true labels, in colours that mean nothing; what a threshold and a watershed make of it; what "
        "the net makes of it. Green outlines are objects that match one of the truth (white), missed ones are filled with orange, "
        "false ones with magenta; ignored regions are grey.",
    )
    images = list(zip(found.otsu.images, found.net.images, strict=True))
    step = max(len(images) // _STRIPS, 1)
    for otsu, net in images[::step][:_STRIPS]:
        report.pictures([_strip(otsu, net, found.net.settings.ignored)])


def _strip(otsu: ImageScores, net: ImageScores, ignore: Sequence[int]) -> Shown:
    subject = net.subject
    box = subject.box
    true = ignoring(subject.true.read(box), ignore)
    assert subject.image is not None
    shown = pictures.grey(subject.image.read(box), missing=None)
    parts = [
        shown,
        labels.colours(true),
        labels.difference(shown, true, otsu.subject.predicted.read(box)),
        labels.difference(shown, true, subject.predicted.read(box)),
    ]
    aps = [image.objects.figures()["AP50"] for image in (otsu, net)]
    caption = f"{subject.name}: AP at IoU 0.5 {aps[0]:.2f} with a threshold, {aps[1]:.2f} with the net"
    return Shown(pictures.png(pictures.beside([_cut(part) for part in parts])), caption, wide=True)


def _cut(picture: Picture) -> Picture:
    """The middle of a large picture."""
    y, x = (max((n - _SIDE) // 2, 0) for n in picture.shape[:2])
    return picture[y : y + _SIDE, x : x + _SIDE]


def _add_densities(report: Report, found: Compared) -> None:
    report.section("Sparse and dense", "Dense images are those in which most nuclei touch.")
    rows = []
    for density in ("sparse", "dense"):
        for method, scores in (("threshold and watershed", found.otsu), ("net", found.net)):
            rows.append({"images": density, "method": method, **_figures(scores, density)})
    report.table(rows)


def _figures(scores: InstanceEvaluation, density: str) -> dict[str, Any]:
    """Scores over the images whose names begin with ``density``."""
    chosen = [image.objects for image in scores.images if image.subject.name.startswith(density)]
    if not chosen:
        return {}
    figures = reduce(add, chosen).figures()
    return {name: figures[name] for name in ("true", "predicted", "AP50", "AP75", "mAP", "precision", "recall")}


def _add_training(report: Report, run: RunFolder) -> None:
    report.section(
        "Training", "What the net was asked to make small, and how it did on images that it did not train on."
    )
    shown = []
    for names, prefix, label in ((_LOSSES, "train", "loss"), (_SCORES, "val", "score")):
        known = {
            n: run.metrics.curve(f"{prefix}/{key}")
            for n, key in names.items()
            if f"{prefix}/{key}" in run.metrics.columns()
        }
        steps = next(iter(known.values()), ([], []))[0]
        same = {name: values for name, (at, values) in known.items() if at == steps}
        if same and np.isfinite(next(iter(same.values()))).any():
            shown.append(Shown(charts.lines(steps, same, "step", label)))
    report.pictures(shown)
