"""Curves of runs: as a line of characters for the terminal, as a chart in a file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path

from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.runs.folder import RunFolder

_BARS = "▁▂▃▄▅▆▇█"
_SUFFIXES = (".png", ".svg", ".pdf", ".html")
_TIMING = ("samples_per_second",)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The course of ``values`` in at most ``width`` characters, lowest to highest; ``!`` where a value is not finite.

    >>> sparkline([0.0, 1.0, 2.0, 3.0], width=4)
    '▁▃▆█'
    """
    num = min(width, len(values))
    means = [_mean(values[i * len(values) // num : (i + 1) * len(values) // num]) for i in range(num)]
    finite = [value for value in means if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] if math.isfinite(value) else "!" for value in means)


def losses(run: RunFolder) -> list[str]:
    """Names of a run's curves without those that only measure time."""
    return [name for name in run.metrics.curves() if name not in _TIMING]


def common_losses(runs: Sequence[RunFolder]) -> list[str]:
    """Names of the training and validation curves that at least one of the runs has, in order."""
    return list(dict.fromkeys(name for run in runs for name in losses(run) if "/" in name))


def check_chart_path(path: str | Path) -> Path:
    """Refuse a file whose suffix names no kind of chart."""
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise UserError(f"cannot draw a chart into {path}; its name must end in one of {', '.join(_SUFFIXES)}")
    return path


def plot_curves(runs: Sequence[RunFolder], path: str | Path) -> None:
    """Draw the losses and scores of runs against steps, one panel per name and one line per run.

    The suffix of ``path`` says the kind: ``.png``, ``.svg``, ``.pdf``, or ``.html`` for a page that holds the picture.
    """
    path = check_chart_path(path)
    names = common_losses(runs)
    if not names:
        raise UserError(f"nothing to draw: no metrics yet in {', '.join(run.name for run in runs)}")
    kind = "svg" if path.suffix == ".html" else path.suffix[1:]
    chart = _draw(runs, names, kind)
    with replacing(path) as beside:
        beside.write_bytes(_page(runs, chart) if path.suffix == ".html" else chart)


def _draw(runs: Sequence[RunFolder], names: Sequence[str], kind: str) -> bytes:
    from matplotlib.figure import Figure

    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, name in zip(panels, names, strict=False):
        for run in runs:
            steps, values = run.metrics.curve(name)
            panel.plot(steps, values, label=run.name, marker="." if len(steps) < 20 else None, linewidth=1)
        panel.set(title=name, xlabel="step")
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    panels[0].legend(fontsize="small")
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=120)
    return out.getvalue()


def _page(runs: Sequence[RunFolder], chart: bytes) -> bytes:
    title = ", ".join(run.name for run in runs)
    source = base64.b64encode(chart).decode()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f'<img alt="curves of {title}" src="data:image/svg+xml;base64,{source}"></html>\n'
    ).encode()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
