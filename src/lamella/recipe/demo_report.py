"""The page of ``lamella demo``: what went in, what came out, and what to do with one's own sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.provenance import provenance
from lamella.io import open_volume
from lamella.ops.correlation import chunked_pearson
from lamella.recipe.demo import Demo
from lamella.runs import RunFolder
from lamella.tasks.align.evaluate import Evaluation, Inputs
from lamella.tasks.align.evaluation_report import add_evaluation, headlines
from lamella.tasks.align.scores import tile_of
from lamella.view import charts, pictures
from lamella.view.report import Headline, Report, Shown

_PICTURE = 320  # px shown of a section
_WIDTH = 480  # px of the page that they take: before and after side by side
_CURVES = {"loss": "total", "similarity": "similarity", "known fields": "known", "smoothness": "smoothness"}

COMMANDS = """lamella demo --data sections/                                    # the same on a folder of your images
lamella prep stacks sections/ stacks.h5 --count 200 --size 512   # or step by step: training data,
lamella train align data.sources.0.path=stacks.h5 --name first   # training (better for hours than for minutes),
lamella align first sections/ aligned.ome.zarr                   # aligning,
lamella evaluate alignment aligned.ome.zarr scores --source sections/ --fields aligned.fields.ome.zarr --run first"""


def write_demo_report(demo: Demo, found: Evaluation) -> None:
    """Write the page."""
    inputs = demo.inputs()
    report = Report("lamella: sections aligned", _lead(demo, inputs))
    report.headlines([*headlines(found), *_ceiling(demo, found), *_times(demo)])
    _add_sections(report, inputs)
    _add_training(report, demo.run)
    add_evaluation(report, found, inputs)
    report.section("With your own sections", "These commands do to your images what was done here.")
    report.code(COMMANDS)
    report.provenance(provenance(settings=demo.settings.to_dict(), seconds=demo.seconds, recipe=demo.run.recipe()))
    report.write(demo.report)


def _lead(demo: Demo, inputs: Inputs) -> str:
    n, height, width = inputs.aligned.box.shape
    size = f"{n} sections of {height} by {width} px"
    if demo.settings.data:
        return f"{size} of {demo.settings.data}. A net was trained on these sections alone, without labels, and aligned them."
    return (
        f"{size} of synthetic tissue, disturbed in ways that are known: drift, jitter, rotation, smooth deformation, changes of "
        "contrast, a crack, a fold, a blacked-out patch and a lost section. A net was trained on the disturbed sections alone, "
        "without labels and without the truth, and aligned them."
    )


def _ceiling(demo: Demo, found: Evaluation) -> list[Headline]:
    """The correlation of the undisturbed sections: what a perfect alignment would reach."""
    if demo.specimen is None:
        return []
    chunk = found.chunks[len(found.chunks) // 2]
    clean = open_volume(demo.specimen.clean)
    sections = clean.read(clean.box)
    r = [np.nanmean(chunked_pearson(a, b, chunk)) for a, b in zip(sections[1:], sections[:-1], strict=True)]
    return [
        Headline("correlation before it was disturbed", f"{np.mean(r):.3f}", f"{chunk} px; the same tissue, untouched")
    ]


def _times(demo: Demo) -> list[Headline]:
    total = sum(demo.seconds.values())
    note = ", ".join(f"{name} {seconds:.0f}" for name, seconds in demo.seconds.items())
    return [Headline("time", f"{total / 60:.1f} min", f"seconds: {note}")]


def _add_sections(report: Report, inputs: Inputs) -> None:
    """A section and the one before it, in turn, before and after: what moves is what does not fit."""
    assert inputs.source is not None
    report.section(
        "Neighbours in turn",
        "Two neighbouring sections shown one after the other. Before, the whole image jumps; after, only what really changes "
        "from one section to the next.",
    )
    z, box = _typical(inputs)
    gifs, boards = [], []
    for name, volume in (("before", inputs.source), ("after", inputs.aligned)):
        one, other = (pictures.grey(tile_of(volume, s, box)) for s in (z - 1, z))
        gifs.append(Shown(pictures.gif([one, other]), f"sections {z - 1} and {z}, {name}", _WIDTH))
        board = pictures.png(pictures.checkerboard(one, other, 40))
        boards.append(Shown(board, f"{name}, in squares: lines should run on", _WIDTH))
    report.pictures(gifs)
    report.pictures(boards)


def _typical(inputs: Inputs) -> tuple[int, Box]:
    """A section near the middle of the stack that, like the one before it, is whole in the picture; and the picture's box."""
    volume = inputs.aligned
    centre = [(a + b) // 2 for a, b in zip(volume.box.start[1:], volume.box.stop[1:], strict=True)]
    side = min(_PICTURE, *volume.box.shape[1:])
    start = (centre[0] - side // 2, centre[1] - side // 2)
    box = Box(start, (start[0] + side, start[1] + side))
    middle = (volume.box.start[0] + volume.box.stop[0]) // 2
    ranked = sorted(range(volume.box.start[0] + 1, volume.box.stop[0]), key=lambda z: abs(z - middle))
    missing = {z: _missing(inputs, z, box) for z in ranked}
    return min(ranked, key=lambda z: missing[z]), box


def _missing(inputs: Inputs, z: int, box: Box) -> float:
    assert inputs.source is not None
    tiles: list[NDArray[Any]] = [tile_of(v, s, box) for v in (inputs.aligned, inputs.source) for s in (z - 1, z)]
    return round(float(np.mean([np.mean(t == 0) for t in tiles])), 3)


def _add_training(report: Report, run: RunFolder) -> None:
    curves: Mapping[str, tuple[list[float], list[float]]] = {
        label: run.metrics.curve(f"train/{name}")
        for label, name in _CURVES.items()
        if f"train/{name}" in run.metrics.columns()
    }
    report.section("Training", "What the net was asked to make small, step by step.")
    steps = next(iter(curves.values()), ([], []))[0]
    same = {label: values for label, (at, values) in curves.items() if at == steps}
    report.pictures([Shown(charts.lines(steps, same, "step", "loss"))])
