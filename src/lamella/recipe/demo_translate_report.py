"""The page of ``lamella demo translate``: what went in, what came out, and what to do with one's own frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.provenance import provenance
from lamella.recipe.demo_translate import Compared, TranslateDemo
from lamella.runs import RunFolder
from lamella.tasks.translate.evaluate import Scored
from lamella.tasks.translate.evaluation_report import add_evaluation, shown
from lamella.view import charts
from lamella.view.comparison import panel, shrunk
from lamella.view.pictures import Picture, grey, grey_limits, overlay
from lamella.view.report import Headline, Report, Shown

_SIDE = 300  # pixels of a picture's longer side
_STRIPS = 4
_SCORES = {"Pearson": "pearson", "SSIM": "ssim"}

COMMANDS = """lamella demo translate --data frames/                          # the same on your frames: the first channel becomes the others
lamella prep shading frames/ frames.prep                        # or step by step: measuring the light,
lamella train translate data.sources.0.path=frames/ data.preprocessing=frames.prep 'data.inputs=[0]' 'data.targets=[1]' --name stains
lamella predict stains frames/ --output predicted --plot        # translating,
lamella evaluate images predicted/ frames/ scores --prep frames.prep"""


def write_demo_report(demo: TranslateDemo, found: Compared) -> None:
    """Write the page."""
    report = Report("lamella: stains from transmitted light", _lead(demo))
    report.headlines([*headlines(found), *_times(demo)])
    _add_pictures(report, demo, found)
    _add_focus(report, demo)
    _add_training(report, demo.run)
    add_evaluation(report, found.net, demo.out / "scores" / "panels")
    report.section("With your own images", "These commands do to your frames what was done here.")
    report.code(COMMANDS)
    report.provenance(provenance(settings=demo.settings.to_dict(), seconds=demo.seconds, recipe=demo.run.recipe()))
    report.write(demo.report)


def headlines(found: Compared) -> list[Headline]:
    """The net beside a regression on filters, stain by stain."""
    cards = []
    for net, ridge in zip(found.net.figures, found.ridge.figures, strict=True):
        for name, metric in _SCORES.items():
            cards.append(
                Headline(
                    f"{net['channel']}: {name}", shown(net[metric]), f"regression on filters {shown(ridge[metric])}"
                )
            )
    return cards


def _lead(demo: TranslateDemo) -> str:
    split, stains = demo.split, " and ".join(demo.names)
    counts = f"{len(split['train'])} positions to learn from, {len(split['test'])} others to score on"
    light = (
        "measured and taken off"
        if demo.measures.shading
        else "taken as it is, since so few positions do not tell it from cells"
    )
    ridge = "It is compared with a ridge regression on filters of the same planes."
    if demo.settings.data is not None:
        return (
            f"{counts}, of {demo.settings.data}. The light was {light}, and a net was trained from scratch to give {stains} from the first "
            f"channel. {ridge}"
        )
    return (
        f"{counts}: synthetic cells in transmitted light at several planes of focus, and two stains, {stains}, at the middle plane. "
        f"Light falls off towards the corners, cells lie at different heights, and there is debris. The light was {light}, and a net was "
        f"trained from scratch to give the stains from the transmitted light. {ridge}"
    )


def _times(demo: TranslateDemo) -> list[Headline]:
    total = sum(demo.seconds.values())
    note = ", ".join(f"{name} {seconds:.0f}" for name, seconds in demo.seconds.items())
    return [Headline("time", f"{total / 60:.1f} min", f"seconds: {note}")]


def _add_pictures(report: Report, demo: TranslateDemo, found: Compared) -> None:
    report.section(
        "What the net makes of transmitted light",
        "Positions that it was not trained on. Truth, regression and net have one scale of grey; in the overlay the truth is magenta and "
        "the net green, so that what agrees is grey.",
    )
    rows = list(zip(found.net.scored["xy"], found.ridge.scored["xy"], strict=True))
    for net, ridge in rows[:_STRIPS]:
        report.pictures([_strip(found, net, ridge)])


def _strip(found: Compared, net: Scored, ridge: Scored) -> Shown:
    true, floor, made = (
        _plane(found, scored, which) for scored, which in ((net, "true"), (ridge, "predicted"), (net, "predicted"))
    )
    limits = grey_limits(true)
    truth, regression, prediction = (grey(image, limits, None) for image in (true, floor, made))
    pictures: list[tuple[str, Picture]] = [("truth", truth), ("regression on filters", regression), ("net", prediction)]
    if net.subject.shown is not None:
        pictures = [("transmitted light", grey(_plane(found, net, "shown"), missing=None)), *pictures]
    pictures.append(("truth magenta, net green", overlay(truth, prediction)))
    told = ", ".join(f"{name} {shown(ridge.row[m])} to {shown(net.row[m])}" for name, m in _SCORES.items())
    return Shown(
        panel([[(title, _large(picture)) for title, picture in pictures]], net.name), f"{net.name}: {told}", wide=True
    )


def _plane(found: Compared, scored: Scored, which: str) -> NDArray[np.float32]:
    """A plane of a layer, made small; scaled as it was scored."""
    subject = scored.subject
    layer, (height, width) = getattr(subject, which), subject.shape[1:]

    def read(first: int, last: int) -> NDArray[np.float32]:
        rows = layer.read(Box((scored.plane, first, 0), (scored.plane + 1, last, width)))[0]
        return np.asarray(rows if which == "shown" else found.net.scales[subject.channel](rows), np.float32)

    return shrunk(read, (height, width), _SIDE)


def _large(picture: Picture) -> Picture:
    factor = max(_SIDE // max(picture.shape[:2]), 1)
    return picture.repeat(factor, 0).repeat(factor, 1)


def _add_focus(report: Report, demo: TranslateDemo) -> None:
    """The planes that the net sees, of one position."""
    volume, number = demo.position(demo.split["test"][0]), demo.channels[0]
    box = volume.box
    slices: Sequence[int] = range(box.start[2], box.stop[2])
    chosen = [slices[int(k)] for k in np.linspace(0, len(slices) - 1, min(len(slices), 5))]
    row: list[tuple[str, Picture]] = []
    for z in chosen:
        start = (box.start[0], number, z, *box.start[3:])

        def read(first: int, last: int, start: tuple[int, ...] = start) -> NDArray[np.float32]:
            part = Box(
                (*start[:3], start[3] + first, start[4]),
                (start[0] + 1, number + 1, start[2] + 1, start[3] + last, box.stop[4]),
            )
            return volume.read(part)[0, 0, 0].astype(np.float32)

        row.append((f"slice {z}", grey(shrunk(read, box.shape[3:], _SIDE - 80), missing=None)))
    report.section(
        "Through focus",
        "Cells are nearly clear. What a plane in focus hides, planes above and below it show, dark or bright.",
    )
    report.pictures([Shown(panel([row], demo.split["test"][0]), "", wide=True)])


def _add_training(report: Report, run: RunFolder) -> None:
    report.section("Training", "The loss on what the net trains on, and how it did on positions that it does not.")
    known = run.metrics.columns()
    pictures = []
    for columns, label in ((["train/total"], "loss"), ([f"val/{m}" for m in _SCORES.values()], "score")):
        curves = {c.partition("/")[2]: run.metrics.curve(c) for c in columns if c in known}
        curves = {"loss" if name == "total" else name: curve for name, curve in curves.items()}
        if curves:
            steps = next(iter(curves.values()))[0]
            same = {name: values for name, (at, values) in curves.items() if at == steps}
            if np.isfinite(next(iter(same.values()))).any():
                pictures.append(Shown(charts.lines(steps, same, "step", label)))
    report.pictures(pictures)
