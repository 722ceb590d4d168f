"""Panels: pictures side by side with a title each, and figures below; and large planes made small enough for them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lamella.view.pictures import Picture

_DPI = 100
_BAND = 1 << 22  # pixels that are read at once
_GAP, _TITLE, _TEXT = 8, 22, 24  # px between pictures, above and below them


def panel(rows: Sequence[Sequence[tuple[str, Picture]]], text: str) -> bytes:
    """Rows of pictures with their titles, as a PNG in which each picture keeps its pixels, and a line of ``text`` below."""
    widths = [max(row[k][1].shape[1] for row in rows if k < len(row)) for k in range(max(map(len, rows)))]
    heights = [max(picture.shape[0] for _, picture in row) for row in rows]
    width = sum(widths) + _GAP * (len(widths) + 1)
    height = sum(heights) + (_TITLE + _GAP) * len(rows) + _TEXT
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    top = height
    for row, tall in zip(rows, heights, strict=True):
        left = _GAP
        top -= _TITLE
        for (title, picture), wide in zip(row, widths, strict=False):
            h, w = picture.shape[:2]
            axes = figure.add_axes((left / width, (top - h) / height, w / width, h / height))
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            figure.text(left / width, (top + 6) / height, title, fontsize=8, color="#404040")
            left += wide + _GAP
        top -= tall + _GAP
    figure.text(_GAP / width, 8 / height, text, fontsize=8, color="#202020", family="monospace")
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def shrunk(read: Callable[[int, int], NDArray[Any]], shape: Sequence[int], longest: int) -> NDArray[np.float32]:
    """A plane of ``shape`` of which no side is longer than ``longest``, each pixel the mean of a square.

    ``read(first, last)`` gives rows of it; memory is that of a band of them.
    """
    step = -(-max(shape) // longest)
    rows = max(_BAND // max(shape[1], 1) // step, 1) * step
    bands = (read(y, min(y + rows, shape[0])) for y in range(0, shape[0], rows))
    return np.concatenate([_means(band.astype(np.float32), step) for band in bands])


def _means(image: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """The mean of every ``step`` by ``step`` pixels; at the ends of fewer."""
    if step == 1:
        return image
    for axis in (0, 1):
        starts = np.arange(0, image.shape[axis], step)
        counts = np.diff([*starts, image.shape[axis]]).reshape([-1 if a == axis else 1 for a in (0, 1)])
        image = np.asarray(np.add.reduceat(image, starts, axis) / counts, np.float32)
    return image
