"""Panels of an evaluation: the input, the truth, the prediction, and both over each other, with their figures.

Truth and prediction have one scale of grey, black at the truth's 0.5 percentile and white at its 99.5. In the overlay the truth is
magenta and the prediction green, so that what agrees is grey. Stacks are shown in three cuts through their middle. Large planes are
made smaller while they are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.files import replacing
from lamella.core.progress import progress
from lamella.ops.image_metrics import PLANE_AXIS, Orientation
from lamella.tasks.translate.evaluate import ImageEvaluation, Scored
from lamella.tasks.translate.evaluate_layers import Layer, Subject
from lamella.view.comparison import panel, shrunk
from lamella.view.pictures import Picture, grey, grey_limits, overlay

_SIDE = 520  # pixels of a picture's longer side
_THIN = 64  # least height of a cut
_CUTS: tuple[Orientation, ...] = ("xy", "xz", "yz")

Image = NDArray[np.float32]


def chosen(found: ImageEvaluation) -> list[tuple[str, Scored]]:
    """What to show of the first orientation: for each channel the worst planes, a usual and the best one, and why."""
    planes = [s for s in found.by_error(found.settings.orientations[0]) if not np.isnan(s.row[found.settings.order])]
    channels = list(dict.fromkeys(s.subject.channel for s in planes))
    count = -(-found.settings.panels // max(len(channels), 1))
    shown: list[tuple[str, Scored]] = []
    for channel in channels if count else ():
        own = [s for s in planes if s.subject.channel == channel]
        worst = own[: min(count, max(len(own) - 2, 1))]
        others = [s for s in (own[len(own) // 2], own[-1]) if s not in worst]
        shown += [("worst", s) for s in worst] + list(
            zip(("usual", "best")[-len(others) :] if others else (), others, strict=True)
        )
    return shown


def write_panels(found: ImageEvaluation, folder: Path) -> dict[str, Path]:
    """A picture of each plane that is shown, and of each stack; by the name of what it shows."""
    planes = [scored for _, scored in chosen(found)]
    stacks = list({id(s.subject): s.subject for s in planes if s.subject.is_stack}.values())
    written: dict[str, Path] = {}
    with progress("drawing panels", len(planes) + len(stacks), "pictures") as meter:
        for scored in planes:
            written[scored.name] = _write(folder, scored.name, plane_panel(found, scored))
            meter.advance()
        for subject in stacks:
            name = stack_name(subject)
            written[name] = _write(folder, name, stack_panel(found, subject))
            meter.advance()
    return written


def stack_name(subject: Subject) -> str:
    """What the picture of a stack in three cuts is called."""
    return f"{subject.name} cuts".strip()


def plane_panel(found: ImageEvaluation, scored: Scored) -> bytes:
    """One plane as a PNG."""
    box = _box(scored.subject, scored.orientation, scored.plane)
    figures = "  ".join(f"{name} {value:.3g}" for name, value in scored.row.items() if name in found.metrics)
    return panel([_pictures(found, scored.subject, box)], f"{scored.name}   {figures}")


def stack_panel(found: ImageEvaluation, subject: Subject) -> bytes:
    """Three cuts through the middle of a stack as a PNG."""
    rows = []
    for cut in _CUTS:
        axis = PLANE_AXIS[cut]
        assert axis is not None
        pictures = _pictures(found, subject, _box(subject, cut, subject.shape[axis] // 2))
        factor = 1 if cut == "xy" else _stretch(subject, pictures[0][1])
        rows.append([(f"{title}, {cut}", picture.repeat(factor, 0)) for title, picture in pictures])
    return panel(rows, f"{subject.name}, the middle of each axis")


def _stretch(subject: Subject, cut: Picture) -> int:
    """How often a row of a cut is repeated: as slices are apart, and often enough that a thin stack is seen."""
    z, _, x = subject.true.volume.meta.voxel_size[2:]
    return max(round(z / x), -(-_THIN // cut.shape[0]))


def _box(subject: Subject, orientation: Orientation, plane: int) -> Box:
    """The plane as a box one voxel thick; of a whole stack its middle slice."""
    axis = PLANE_AXIS[orientation]
    axis, plane = (0, subject.shape[0] // 2) if axis is None else (axis, plane)
    start, stop = [0, 0, 0], list(subject.shape)
    start[axis], stop[axis] = plane, plane + 1
    return Box(tuple(start), tuple(stop))


def _pictures(found: ImageEvaluation, subject: Subject, box: Box) -> list[tuple[str, Picture]]:
    scale = found.scales[subject.channel]
    true, predicted = (
        np.asarray(scale(_shrunk(layer, box)), np.float32) for layer in (subject.true, subject.predicted)
    )
    limits = grey_limits(true)
    truth, prediction = grey(true, limits, None), grey(predicted, limits, None)
    shown = [
        ("truth", truth),
        ("prediction", prediction),
        ("truth magenta, prediction green", overlay(truth, prediction)),
    ]
    if subject.shown is not None:
        shown = [("input", grey(_shrunk(subject.shown, box), missing=None)), *shown]
    return [(title, _enlarged(picture)) for title, picture in shown]


def _shrunk(layer: Layer, box: Box) -> Image:
    """A plane (y, x), made small."""
    axis = box.shape.index(1)
    rows, columns = (k for k in range(3) if k != axis)

    def read(first: int, last: int) -> NDArray[Any]:
        start, stop = list(box.start), list(box.stop)
        start[rows], stop[rows] = box.start[rows] + first, box.start[rows] + last
        part = Box(tuple(start), tuple(stop))
        return layer.read(part).reshape(part.shape[rows], part.shape[columns])

    return shrunk(read, (box.shape[rows], box.shape[columns]), _SIDE)


def _enlarged(picture: Picture) -> Picture:
    """Small pictures doubled or more."""
    factor = max(_SIDE // max(picture.shape[:2]), 1)
    return picture.repeat(factor, 0).repeat(factor, 1)


def _write(folder: Path, name: str, png: bytes) -> Path:
    path = folder / f"{name.replace('/', '_').replace(' ', '_') or 'image'}.png"
    with replacing(path) as beside:
        beside.write_bytes(png)
    return path
