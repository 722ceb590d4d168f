"""Previews of translations: the input beside each target, and a page that shows all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.files import replacing
from lamella.core.progress import progress
from lamella.io.views import expanded
from lamella.tasks.translate.predict_files import Outputs, VolumeSink
from lamella.tasks.translate.predict_source import Item, Source
from lamella.tasks.translate.translator import Translator
from lamella.view.comparison import panel, shrunk
from lamella.view.pictures import Picture, grey
from lamella.view.report import Headline, Report, Shown

_SIDE = 512  # pixels of a picture's longer side
_SHOWN = 100  # pictures on the page


def write_previews(
    source: Source, outputs: Outputs, translators: Sequence[Translator], facts: Mapping[str, Any]
) -> Path | None:
    """A preview of each item, and for several outputs ``index.html``, which is returned."""
    with progress("drawing previews", len(source.items), "images") as meter:
        for item, translator in zip(source.items, translators, strict=True):
            with replacing(outputs.preview(item)) as beside:
                beside.write_bytes(_preview(item, translator, outputs))
            meter.advance()
    if outputs.single:
        return None
    page = outputs.folder / "index.html"
    report = Report(
        "Translated images",
        "The first input of the middle slice, and what the net makes of it, each with its own scale of grey.",
    )
    report.headlines(
        [Headline("images", str(len(source.items))), Headline("targets", ", ".join(translators[0].targets))]
    )
    if source.left_out:
        report.section("Left out")
        report.code("\n".join(source.left_out))
    first = f"The first {_SHOWN} of {len(source.items)}." if len(source.items) > _SHOWN else ""
    report.section("Images", first)
    for item in source.items[:_SHOWN]:
        report.pictures([Shown(outputs.preview(item).read_bytes(), item.name, wide=True)])
    report.provenance(facts)
    report.write(page)
    return page


def _preview(item: Item, translator: Translator, outputs: Outputs) -> bytes:
    """The middle slice of the first time as a PNG."""
    part = item.parts(translator)[0]
    depth, *shape = part.box.shape

    def input_rows(first: int, last: int) -> NDArray[Any]:
        return part.read(Box((depth // 2, first, 0), (depth // 2 + 1, last, shape[1])))[0, 0]

    row: list[tuple[str, Picture]] = [("input", grey(shrunk(input_rows, shape, _SIDE), missing=None))]
    plane = item.inputs.box.shape[2] // 2
    for k, name in enumerate(translator.targets):
        rows = translation(item, translator, outputs, k, plane)
        row.append((name, grey(shrunk(rows, item.inputs.box.shape[3:], _SIDE), missing=None)))
    return panel([row], f"{item.name}, slice {item.inputs.box.start[2] + plane}")


def translation(
    item: Item, translator: Translator, outputs: Outputs, target: int, plane: int
) -> Callable[[int, int], Any]:
    """Reads rows of what was written of a target, at a slice (from 0) of the first time."""
    if outputs.format == "png":
        picture = np.asarray(iio.imread(outputs.path(item)))
        return lambda first, last: picture[first:last]
    sink = outputs.open(item, translator)
    assert isinstance(sink, VolumeSink)
    volume = expanded(sink.volume, "tczyx")
    box, number = volume.box, volume.box.start[1] + sink.channels[target]

    def rows(first: int, last: int) -> NDArray[Any]:
        start = (box.start[0], number, box.start[2] + plane, box.start[3] + first, box.start[4])
        stop = (start[0] + 1, number + 1, start[2] + 1, box.start[3] + last, box.stop[4])
        return volume.read(Box(start, stop))[0, 0, 0]

    return rows
