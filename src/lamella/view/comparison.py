"""Panels: pictures side by side with a title each, and figures below."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lamella.view.pictures import Picture

_DPI = 100
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
