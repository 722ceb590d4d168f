"""The page that shows an evaluation of images: figures, then the planes as pictures, the worst first, then all of them as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lamella.core.provenance import provenance
from lamella.ops.image_metrics import ERRORS
from lamella.tasks.translate.evaluate import ImageEvaluation, Scored
from lamella.tasks.translate.evaluate_panels import chosen, stack_name, write_panels
from lamella.view import charts
from lamella.view.report import Headline, Report, Shown

NAMES = {
    "mae": "MAE",
    "mse": "MSE",
    "r2": "R²",
    "pearson": "Pearson",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "psnr": "PSNR",
    "dice": "Dice",
    "accuracy": "accuracy",
}
_HEADLINES = ("pearson", "ssim", "dice", "mae")
_LISTED = 1000
_ABOUT = """Means over planes; a figure that is not defined for a plane (a truth without contrast, a plane smaller than the window) counts \
in no mean. MAE and MSE are in intensities, PSNR in dB. SSIM has windows of {window} px and rests on the range of intensities {ranges}. \
Figures with _masked count voxels within the masks only, which are vol_frac of all."""
_ABOUT_PICTURES = """Truth and prediction have one scale of grey. In the overlay the truth is magenta and the prediction green: grey is \
right, magenta was missed, green is not there. The worst come first, by {order}; of each channel a usual and the best one follow."""


def write_report(found: ImageEvaluation, out: Path, facts: Mapping[str, Any] | None = None) -> Path:
    """Write the page and its panels for ``found`` to the folder ``out``; ``facts`` are added to its provenance."""
    report = Report("Images, scored", _lead(found))
    report.headlines(headlines(found))
    add_evaluation(report, found, out / "panels")
    report.provenance(provenance(settings=found.settings.to_dict(), **(facts or {})))
    report.write(out / "report.html")
    return out / "report.html"


def add_evaluation(report: Report, found: ImageEvaluation, panels: Path) -> None:
    """The sections of an evaluation, for a page of its own or as part of another; pictures are kept in ``panels`` too."""
    _add_figures(report, found)
    if found.settings.panels:
        _add_panels(report, found, panels)
    _add_planes(report, found)


def headlines(found: ImageEvaluation) -> list[Headline]:
    """The few figures that tell most, of the first orientation."""
    first = [row for row in found.figures if row["orientation"] == found.settings.orientations[0]]
    cards = []
    for metric in (m for m in _HEADLINES if m in found.settings.metrics):
        told = ", ".join(f"{row['channel']} {shown(row[metric])}" for row in first) if len(first) > 1 else ""
        value = np.nanmean([row[metric] for row in first]) if _any(first, metric) else float("nan")
        cards.append(Headline(NAMES[metric], shown(value), told))
    planes = sum(row["planes"] for row in first)
    note = f"{found.undefined} without {NAMES[found.settings.order]}" if found.undefined else ""
    return [*cards, Headline("planes compared", str(planes), note)]


def shown(value: Any) -> str:
    """A figure in three digits."""
    return "n/a" if value is None or not np.isfinite(value) else f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def _any(rows: list[dict[str, Any]], metric: str) -> bool:
    return any(np.isfinite(row[metric]) for row in rows)


def _lead(found: ImageEvaluation) -> str:
    items = found.subjects.items
    count = len({subject.position for subject in items})
    text = f"{count} {'positions' if count != 1 else 'position'}: {items[0].predicted.volume.path} and others"
    text = text if count > 1 else items[0].predicted.volume.path
    left = f" Not predicted, so not compared: {', '.join(found.subjects.left_out)}." if found.subjects.left_out else ""
    return f"{text} against {items[0].true.volume.path}.{left}"


def _add_figures(report: Report, found: ImageEvaluation) -> None:
    ranges = ", ".join(f"{name} {value:g}".strip() for name, value in found.ranges.items())
    report.section("How close the prediction is", _ABOUT.format(window=found.settings.window, ranges=ranges))
    report.table(found.figures)
    order = found.settings.order
    spread = {
        channel: [s.row[order] for s in found.scored[found.settings.orientations[0]] if s.subject.channel == channel]
        for channel in found.scales
    }
    known = {name: np.array(v)[np.isfinite(v)] for name, v in spread.items()}
    known = {name: v for name, v in known.items() if v.size > 3}
    if known:
        low, high = (f([f(v) for v in known.values()]) for f in (np.min, np.max))
        bins = np.linspace(low, high if high > low else low + 1, 31)
        counts = {name or "planes": np.histogram(v, bins)[0] for name, v in known.items()}
        report.pictures([Shown(charts.shares(bins, counts, NAMES[order]), f"{NAMES[order]} of all planes.")])


def _add_panels(report: Report, found: ImageEvaluation, panels: Path) -> None:
    written = write_panels(found, panels)
    report.section("The worst, a usual one, the best", _ABOUT_PICTURES.format(order=NAMES[found.settings.order]))
    subjects = {}
    for why, scored in chosen(found):
        report.pictures([Shown(written[scored.name].read_bytes(), f"{why}: {_caption(scored, found)}", wide=True)])
        if scored.subject.is_stack:
            subjects[stack_name(scored.subject)] = scored.subject.name
    if subjects:
        report.section("Stacks in three cuts", "Through the middle of each axis.")
        report.pictures([Shown(written[key].read_bytes(), name, wide=True) for key, name in subjects.items()])


def _caption(scored: Scored, found: ImageEvaluation) -> str:
    figures = ", ".join(f"{NAMES[m]} {shown(scored.row[m])}" for m in found.settings.metrics)
    return f"{scored.name}: {figures}"


def _add_planes(report: Report, found: ImageEvaluation) -> None:
    first = found.settings.orientations[0]
    order = found.settings.order
    by = "largest" if order in ERRORS else "smallest"
    report.section(
        "Plane by plane",
        f"The worst first: those with the {by} {NAMES[order]}. Click a head to sort by another figure.",
    )
    rows = [s.row for s in found.by_error(first)]
    more = f"The {_LISTED} worst of {len(rows)}. " if len(rows) > _LISTED else ""
    report.table(rows[:_LISTED], f"{more}All are in metrics_{first}.csv.", sortable=True)
