"""The page that shows an evaluation of instances: figures, then curves and sizes, then the worst images as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.provenance import provenance
from lamella.ops.matching import ignoring
from lamella.tasks.segment.evaluate import ImageScores, InstanceEvaluation
from lamella.tasks.segment.evaluate_inputs import Layer
from lamella.view import charts, labels, pictures
from lamella.view.pictures import Picture
from lamella.view.report import Headline, Report, Shown

_WHOLE = 768  # px; images up to this size are shown whole
_PLACE = 512  # px shown around a bad place of a larger one
_LISTED = 60
_ABOUT_AP = """AP is the share of right objects among all that are true or predicted, TP / (TP + FP + FN), where an object is right \
if it is matched one to one with an IoU of at least the threshold. Image: the mean over images, in which every image counts the same. \
Pooled: over the objects of all images, in which every object counts the same."""
_ABOUT_PICTURES = """Left to right: the image, the truth, the prediction, the difference. Numbers of labels are shown as colours \
that mean nothing else. In the difference, green outlines are predictions that match and white ones the truth they match; missed \
objects are filled with orange, predictions that match nothing with magenta; ignored regions are grey."""


def write_report(found: InstanceEvaluation, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write the page for ``found``; ``facts`` are added to its provenance."""
    report = Report("Instances, scored", _lead(found))
    report.headlines(headlines(found))
    add_evaluation(report, found)
    report.provenance(provenance(settings=found.settings.to_dict(), **(facts or {})))
    report.write(path)


def add_evaluation(report: Report, found: InstanceEvaluation) -> None:
    """The sections of an evaluation, for a page of its own or as part of another."""
    _add_figures(report, found)
    _add_sizes(report, found)
    _add_worst(report, found)
    _add_images(report, found)


def headlines(found: InstanceEvaluation) -> list[Headline]:
    """The few figures that tell most."""
    figures = found.figures()
    other = found.baseline.figures if found.baseline is not None else {}

    def card(name: str, *keys: str, note: str = "") -> Headline:
        values = " / ".join(_shown(figures[key]) for key in keys)
        beside = " / ".join(_shown(other.get(key)) for key in keys)
        return Headline(name, values, f"baseline {beside}" if other else note)

    return [
        card("AP at IoU 0.5, image / pooled", "AP50_img", "AP50_pool"),
        card("mean AP, image / pooled", "mAP_img", "mAP_pool", note="over IoU 0.5 to 0.95"),
        card("F1", "F1_50", note=f"precision {_shown(figures['precision'])}, recall {_shown(figures['recall'])}"),
        card("panoptic quality", "PQ", note=f"SQ {_shown(figures['SQ'])}, RQ {_shown(figures['RQ'])}"),
        card("SEG", "SEG", note=f"as the Cell Tracking Challenge counts: {_shown(figures['SEG_ctc'])}"),
        Headline("objects, true / predicted", f"{figures['true']} / {figures['predicted']}"),
    ]


def _shown(value: Any) -> str:
    return "n/a" if value is None or not np.isfinite(value) else f"{value:.3f}"


def _lead(found: InstanceEvaluation) -> str:
    count = len(found.images)
    subject = found.images[0].subject
    what = f"{count} images, the first {subject.name}" if count > 1 else subject.name
    return f"{what}: {subject.predicted.volume.path} against {subject.true.volume.path}."


def _add_figures(report: Report, found: InstanceEvaluation) -> None:
    report.section("How many objects were found, and how well", _ABOUT_AP)
    curves = found.curves()
    series = {"image": curves["AP_img"], "pooled": curves["AP_pool"]}
    curve = charts.lines(curves["threshold"], series, "IoU", "AP", markers=True)
    best = np.histogram(found.pooled.best, np.linspace(0, 1, 41))
    spread = charts.shares(best[1], {"true objects": best[0]}, "IoU with the prediction that fits best")
    report.pictures(
        [Shown(curve, "AP over the threshold of IoU."), Shown(spread, "All true objects; at 0 those that were missed.")]
    )
    rows = [{"figure": name, "value": value} for name, value in found.figures().items()]
    if found.baseline is not None:
        rows = [{**row, "baseline": found.baseline.figures.get(row["figure"])} for row in rows]
    report.table(
        rows,
        "voi and adapted_rand_error are means over images, in bits; foreground_ leaves out what is background in the truth.",
    )


def _add_sizes(report: Report, found: InstanceEvaluation) -> None:
    text = f"Objects in classes of area, in voxels; found at an IoU of {found.settings.threshold:g}."
    if found.baseline is not None:
        lost = [row["area"] for row in found.size_rows() if row["reached"] == "no"]
        text += f" The baseline ({found.baseline.path}) is " + (
            f"better for objects of {', '.join(lost)}." if lost else "reached in every class."
        )
    report.section("By size", text)
    report.table(found.size_rows())


def _add_worst(report: Report, found: InstanceEvaluation) -> None:
    if not found.settings.worst:
        return
    report.section("The worst", _ABOUT_PICTURES)
    for image, box in _places(found):
        report.pictures([_strip(found, image, box)])


def _places(found: InstanceEvaluation) -> list[tuple[ImageScores, Box]]:
    """Images and what to show of each: of several the worst place each, of one its worst places."""
    count = found.settings.worst
    if len(found.images) > 1:
        return [(image, worst_boxes(image, 1)[0]) for image in found.worst()[:count]]
    image = found.images[0]
    return [(image, box) for box in worst_boxes(image, count)]


def worst_boxes(image: ImageScores, count: int) -> list[Box]:
    """Boxes, one section thick in volumes, around the places with most objects wrong; a small section is shown whole."""
    shape, places = np.array(image.subject.box.shape), image.outcome.wrong
    side = np.where(shape > _WHOLE, _PLACE, shape)
    if len(shape) == 3:
        side[0] = 1
    if not len(places):
        places = (shape[None] - 1) / 2
    cells, counts = np.unique((places // side).astype(np.int64), axis=0, return_counts=True)
    chosen = cells[np.argsort(-counts, kind="stable")[:count]]
    start = np.minimum(chosen * side, shape - side)
    return [Box(tuple(a), tuple(b)) for a, b in zip(start.tolist(), (start + side).tolist(), strict=True)]


def _strip(found: InstanceEvaluation, image: ImageScores, box: Box) -> Shown:
    subject, settings = image.subject, found.settings
    true, predicted = (_section(layer, box).astype(np.int64) for layer in (subject.true, subject.predicted))
    shown = _picture(subject.image, box, true)
    known = ignoring(true, settings.ignored) if settings.ignored else true
    parts = [
        shown,
        labels.colours(np.maximum(known, 0)),
        labels.colours(predicted),
        labels.difference(shown, known, predicted, settings.threshold),
    ]
    figures = image.objects.figures()
    caption = f"{subject.name}{_where(image, box)}: AP50 {_shown(figures['AP50'])}, mean AP {_shown(figures['mAP'])}, {figures['true']} true, "
    caption += f"{image.outcome.missed} missed, {image.outcome.false} false"
    return Shown(pictures.png(pictures.beside([_enlarged(p) for p in parts])), caption, wide=True)


def _section(layer: Layer, box: Box) -> NDArray[Any]:
    """``box``, one section thick, as (y, x)."""
    array = layer.read(box)
    return array[0] if array.ndim == 3 else array


def _picture(layer: Layer | None, box: Box, true: NDArray[Any]) -> Picture:
    if layer is None:
        return np.zeros((*true.shape, 3), np.uint8)
    return pictures.grey(_section(layer, box), missing=None)


def _enlarged(picture: Picture) -> Picture:
    """Small pictures doubled or more, so that outlines can be seen."""
    factor = max(256 // max(picture.shape[:2]), 1)
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _where(image: ImageScores, box: Box) -> str:
    if box.shape == image.subject.box.shape:
        return ""
    names: Sequence[str] = image.subject.true.axes
    return ", " + ", ".join(f"{a} {n}" for a, n in zip(names, box.start, strict=True))


def _add_images(report: Report, found: InstanceEvaluation) -> None:
    report.section("Image by image")
    columns = (
        "image",
        "true",
        "predicted",
        "AP50",
        "AP75",
        "mAP",
        "precision",
        "recall",
        "PQ",
        "SEG",
        "dice_objects",
        "voi",
    )
    worst = found.worst()[:_LISTED]
    note = "All figures of every image are in images.csv, every object in objects.csv."
    if len(found.images) > _LISTED:
        note = f"The {_LISTED} worst of {len(found.images)}. {note}"
    report.table([{c: image.row()[c] for c in columns} for image in worst], note)
