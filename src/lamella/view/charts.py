"""Charts in one plain style, as PNG files in memory. Mid-grey text on a clear ground reads on light and on dark pages."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

COLOURS = (
    "#3b7dd8",
    "#e0803a",
    "#4aa564",
    "#b65fcf",
    "#8a8a8a",
    "#c94f5d",
)  # told apart in grey and by colour-blind eyes

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": "#808080",
    "axes.labelcolor": "#808080",
    "axes.edgecolor": "#a0a0a0",
    "xtick.color": "#808080",
    "ytick.color": "#808080",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#808080",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@contextmanager
def chart(x_label: str, y_label: str, size: tuple[float, float] = (7.2, 2.8)) -> Iterator[tuple[Axes, list[bytes]]]:
    """Axes to draw on, and a list that holds the PNG once the block ends; for charts that the functions below do not make."""
    made: list[bytes] = []
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = FigureCanvasAgg(figure).figure.add_subplot()
        axes.set(xlabel=x_label, ylabel=y_label)
        yield axes, made
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, fontsize=8)  # above, where it covers nothing
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=140, transparent=True, metadata={"Software": None})
        made.append(buffer.getvalue())


def lines(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    x_label: str,
    y_label: str,
    *,
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    log: bool = False,
    markers: bool = False,
) -> bytes:
    """One line per series over ``x``; a band (low, high) of the same name is shaded. NaN leaves a gap."""
    with chart(x_label, y_label) as (axes, made):
        for colour, (name, y) in zip(_cycle(len(series)), series.items(), strict=True):
            axes.plot(x, y, color=colour, label=name, linewidth=1.5, marker="o" if markers else None, markersize=3)
            if bands and name in bands:
                axes.fill_between(np.asarray(x), *bands[name], color=colour, alpha=0.18, linewidth=0)
        if log:
            axes.set_yscale("log")
        if not np.mod(np.asarray(x, float), 1).any():
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return made[0]


def shares(bins: ArrayLike, counts: Mapping[str, ArrayLike], x_label: str, coarsen: int = 1) -> bytes:
    """Outlines of several histograms over the same ``bins``, each as shares of its own total; ``coarsen`` bins are joined."""
    edges = np.asarray(bins, float)
    kept = (len(edges) - 1) // coarsen
    with chart(x_label, "share") as (axes, made):
        for colour, (name, values) in zip(_cycle(len(counts)), counts.items(), strict=True):
            joined = np.asarray(values, float)[: kept * coarsen].reshape(kept, coarsen).sum(axis=1)
            share = joined / max(float(np.sum(values)), 1.0)
            axes.stairs(share, edges[: kept * coarsen + 1 : coarsen], color=colour, label=name, linewidth=1.5)
    return made[0]


def _cycle(n: int) -> Sequence[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]
