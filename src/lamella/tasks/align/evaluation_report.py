"""The page that shows an evaluation: figures first, then curves over the sections, then the worst places as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.provenance import provenance
from lamella.core.volume import Volume
from lamella.tasks.align.drift import Drift, recorded, told
from lamella.tasks.align.evaluate import Evaluation, Inputs
from lamella.tasks.align.scores import FieldStack, tile_of
from lamella.view import charts, pictures
from lamella.view.report import Headline, Report, Shown

_PICTURE = 256  # px of a picture of a whole section
_PLACE = 160  # px shown around a bad place
_SECTIONS_LISTED = 60
_ABOUT_NULL = """Correlation between neighbours rewards inventing motion, so each figure stands beside its null, the same figure for \
sections that have nothing to do with each other: aligned sections half a stack apart, one of them turned by 180°. It shows what the \
tissue's own statistics give by chance and should be about zero. It cannot show whether the method bends tissue until noise fits: for \
that, the method has to be run against an unrelated section (--run)."""
_ABOUT_METHOD = """The trained net was run again on pairs of sections as they were before alignment: each on its neighbour, the neighbour \
on it, and each on an unrelated section turned by 180°, where there is nothing to find. What it reaches there is its null; net is what \
remains. Forward-backward is how far a point is from where it began after going to the neighbour and back."""


def write_report(found: Evaluation, inputs: Inputs, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write the page for ``found``; ``facts`` are added to its provenance."""
    report = Report(f"Alignment of {Path(inputs.aligned.path).name}", _lead(inputs))
    report.headlines(headlines(found))
    add_evaluation(report, found, inputs)
    volumes = {name: volume.path for name, volume in vars(inputs).items() if volume is not None}
    report.provenance(provenance(**volumes, **(facts or {})))
    report.write(path)


def add_evaluation(report: Report, found: Evaluation, inputs: Inputs) -> None:
    """The sections of an evaluation, for a page of its own or as part of another."""
    _add_correlations(report, found)
    if "endpoint" in found.totals:
        _add_endpoint(report, found)
    if found.method is not None:
        _add_method(report, found.method)
    add_stack(report, inputs)
    _add_worst(report, found, inputs)
    _add_sections(report, found)


def headlines(found: Evaluation) -> list[Headline]:
    """The few figures that tell most."""
    chunk = found.chunks[len(found.chunks) // 2]
    totals = found.totals
    after, null, before = (totals.get(f"{name} {chunk}") for name in ("after", "null", "before"))
    shown = []
    if after is not None:
        notes = [f"before {before.mean:.3f}"] if before is not None else []
        notes += [f"null {null.mean:.3f}"] if null is not None else []
        shown.append(Headline(f"correlation of neighbours, {chunk} px", f"{after.mean:.3f}", ", ".join(notes)))
    if "endpoint" in totals:
        error, start = totals["endpoint"], totals["endpoint before"]
        value = f"{error.percentile(50):.2f} / {error.percentile(95):.2f} px"
        note = f"before {start.percentile(50):.2f} / {start.percentile(95):.2f} px"
        shown.append(Headline("error against the truth, median / p95", value, note))
    if found.method is not None:
        m, fb = found.method, found.method["forward_backward"]
        shown.append(
            Headline("net correlation of the method", f"{m['net']:.3f}", f"{m['after']:.3f} less null {m['null']:.3f}")
        )
        shown.append(Headline("forward-backward, median / p95", f"{fb['p50']:.2f} / {fb['p95']:.2f} px"))
    if found.folded_percent is not None:
        shown.append(Headline("folded by the fields", f"{found.folded_percent:.3g} %"))
    return shown


def _lead(inputs: Inputs) -> str:
    shape = " x ".join(str(n) for n in inputs.aligned.box.shape)
    source = f", aligned from {inputs.source.path}" if inputs.source is not None else ""
    return f"{inputs.aligned.path}, {shape} voxels (z, y, x){source}."


def _add_correlations(report: Report, found: Evaluation) -> None:
    report.section("Correlation of neighbouring sections", _ABOUT_NULL)
    rows = [
        {"chunks": name, **tally.summary()}
        for chunk in found.chunks
        for which in ("before", "after", "null")
        if (tally := found.totals.get(name := f"{which} {chunk}")) is not None
    ]
    report.table(
        rows,
        "Pearson correlation per chunk, named by its side in px. Chunks of which more than 4 % is missing are dropped. "
        "Lost sections are passed over: their neighbours are compared with each other.",
    )
    chunk = found.chunks[len(found.chunks) // 2]
    z = [s.z for s in found.sections]
    kinds = [k for k in ("before", "after", "null") if f"{k} {chunk}" in found.totals]
    series = {k: [_figure(s.tallies, f"{k} {chunk}", None) for s in found.sections] for k in kinds}
    band = _band(found, f"after {chunk}")
    curve = charts.lines(z, series, "section", f"correlation, {chunk} px", bands={"after": band}, markers=len(z) < 60)
    counts = {k: found.totals[f"{k} {chunk}"].counts for k in kinds}
    spread = charts.shares(found.totals[f"after {chunk}"].bins, counts, f"correlation, {chunk} px", coarsen=40)
    report.pictures(
        [Shown(curve, "Mean per section; shaded: 5th to 95th percentile after."), Shown(spread, "All chunks.")]
    )


def _figure(tallies: Mapping[str, Any], name: str, q: int | None) -> float:
    tally = tallies.get(name)
    if tally is None:
        return float("nan")
    return tally.mean if q is None else tally.percentile(q)


def _band(found: Evaluation, name: str) -> tuple[list[float], list[float]]:
    """5th and 95th percentile of a tally in every section."""
    low, high = ([_figure(s.tallies, name, q) for s in found.sections] for q in (5, 95))
    return low, high


def _add_endpoint(report: Report, found: Evaluation) -> None:
    report.section(
        "Error against the truth",
        "Distance in px between where the field looks and where it should, for every pixel that has a counterpart. Step is the "
        "error of a section relative to the section before it: how well the two fit, whatever drift they share.",
    )
    names = {"before": "endpoint before", "after": "endpoint", "step": "step"}
    report.table([{"px": label, **found.totals[name].summary()} for label, name in names.items()])
    z = [s.z for s in found.sections]
    series = {label: [_figure(s.tallies, name, 50) for s in found.sections] for label, name in names.items()}
    band = _band(found, "endpoint")
    curve = charts.lines(z, series, "section", "median error in px", bands={"after": band}, markers=len(z) < 60)
    report.pictures([Shown(curve, "Median per section; shaded: 5th to 95th percentile after.")])


def _add_method(report: Report, method: Mapping[str, Any]) -> None:
    report.section("The method, run again", _ABOUT_METHOD)
    report.table(
        [{"section": p["z"], **{k: v for k, v in p.items() if k != "z"}} for p in method["pairs"]],
        f"Mean correlation of chunks of {method['chunk']} px in the middle of each section.",
    )
    report.table([{"forward-backward, px": "all pairs", **method["forward_backward"]}])


def add_stack(report: Report, inputs: Inputs) -> None:
    """Cuts through the stack before and after, and fields as colour."""
    report.section(
        "The stack",
        "Cuts along z through the middle: what belongs together should run on from row to row. "
        "Each section has its own contrast here.",
    )
    stretch = _stretch(inputs.aligned)
    volumes = {"before": inputs.source, "after": inputs.aligned}
    for axis, name in ((2, "x"), (1, "y")):
        cuts = {k: _cut(v, inputs.aligned.box, axis) for k, v in volumes.items() if v is not None}
        shown = {k: pictures.png(pictures.cross_section(c, stretch)) for k, c in cuts.items()}
        report.pictures([Shown(data, f"{k}, z down, {name} across") for k, data in shown.items()])
    fields, _ = inputs.field_stacks()
    if fields is not None:
        _add_fields(report, fields, inputs.aligned)
        _add_drift(report, recorded(fields.volume.path))


def _stretch(volume: Volume) -> float:
    """Rows per section that make a cut's pixels square, but no more than keep it readable."""
    z, y, _ = volume.meta.voxel_size
    return float(np.clip(z / y if y else 1, max(1, 96 / volume.box.shape[0]), 12))


def _cut(volume: Volume, box: Box, axis: int) -> NDArray[Any]:
    """The plane through the middle of ``box`` along z and ``axis`` (1 y, 2 x), at most 256 sections by 768 px of it.

    Five px across the cut are averaged, and each section is stretched to its own contrast, so that the eye follows the tissue.
    """
    other = 3 - axis
    start, stop = list(box.start), list(box.stop)
    start[other] = max((start[other] + stop[other]) // 2 - 2, start[other])
    stop[other] = min(start[other] + 5, stop[other])
    stop[0] = min(stop[0], start[0] + 256)
    middle = (start[axis] + stop[axis]) // 2
    start[axis], stop[axis] = max(start[axis], middle - 384), min(stop[axis], middle + 384)
    wanted = Box(tuple(start), tuple(stop))
    inside = wanted.intersect(volume.box)
    out = np.zeros(wanted.shape, np.float32)
    if not inside.is_empty:
        out[inside.slices(wanted.start)] = volume.read(inside)
    mean = np.where((out == 0).any(axis=other), 0, out.mean(axis=other))
    return np.stack([pictures.grey(row[None])[0] for row in mean])


def _add_fields(report: Report, fields: FieldStack, aligned: Volume) -> None:
    box = _middle(aligned.box, 4 * _PICTURE)
    first, n = aligned.box.start[0], aligned.box.shape[0]
    chosen = [int(z) for z in np.unique(np.linspace(first + min(1, n - 1), first + n - 1, 4).astype(int))]
    shown = {z: fields.read(z, box) for z in chosen}
    limit = max(pictures.longest(f) for f in shown.values())
    cards = [
        Shown(
            pictures.png(pictures.shrink(pictures.field_colour(f, limit), _PICTURE)),
            f"field of section {z}, mean {np.hypot(*f).mean():.1f} px",
        )
        for z, f in shown.items()
    ]
    key = Shown(pictures.png(pictures.field_legend()), f"key: the edge is {limit:.1f} px or more")
    report.pictures([*cards, key])


def _add_drift(report: Report, rows: Sequence[Drift]) -> None:
    if len(rows) < 2:
        return
    series = {"from the source": [r.slow for r in rows], "from the section before": [r.step for r in rows]}
    curve = charts.lines([r.z for r in rows], series, "section", "pixels", markers=len(rows) < 60)
    report.pictures([Shown(curve, f"What fields move over wide areas: {told(rows)}.")])


def _middle(box: Box, side: int) -> Box:
    """The middle of a section (y, x), at most ``side`` px wide."""
    centre = [(a + b) // 2 for a, b in zip(box.start[1:], box.stop[1:], strict=True)]
    around = Box(tuple(c - side // 2 for c in centre), tuple(c - side // 2 + side for c in centre))
    return around.intersect(Box(box.start[1:], box.stop[1:]))


def _add_worst(report: Report, found: Evaluation, inputs: Inputs) -> None:
    report.section(
        "The worst places",
        f"Chunks of {found.chunks[-1]} px that fit their neighbour least. Look before you believe them: tissue that ends, a defect, "
        "or plain cytoplasm correlates little however well it is aligned. What is slate blue holds no data.",
    )
    report.table(found.worst, "Centres of the chunks in voxels of the aligned volume.")
    previous = {s.z: s.previous for s in found.sections}
    report.pictures([_flicker(inputs, place, previous[int(place["z"])]) for place in found.worst[:6]])
    if found.worst_endpoint:
        report.table(found.worst_endpoint, "Chunks with the largest mean error against the truth, in px.")


def _flicker(inputs: Inputs, place: Mapping[str, Any], previous: int | None) -> Shown:
    """The place in its section and in the section before, in turn."""
    y, x, z = int(place["y"]), int(place["x"]), int(place["z"])
    box = Box((y - _PLACE // 2, x - _PLACE // 2), (y + _PLACE // 2, x + _PLACE // 2))
    assert previous is not None  # a place is bad against something
    frames = [pictures.grey(tile_of(inputs.aligned, s, box)) for s in (previous, z)]
    caption = f"z {previous} and {z}, y {y}, x {x}: {place['correlation']:.2f}"
    return Shown(pictures.gif(frames), caption, 2 * _PLACE)


def _add_sections(report: Report, found: Evaluation) -> None:
    report.section("Section by section")
    chunk = found.chunks[len(found.chunks) // 2]
    columns = {
        "z": "z",
        "previous": "against",
        "missing_percent": "missing, %",
        f"before_{chunk}_mean": "before",
        f"after_{chunk}_mean": "after",
        f"after_{chunk}_p5": "after, p5",
        f"null_{chunk}_mean": "null",
        "endpoint_before_p50": "error before, px",
        "endpoint_p50": "error, px",
        "endpoint_p95": "error, p95",
        "step_p50": "step, px",
        "folded_percent": "folded, %",
    }
    rows = found.rows()
    kept = {c: title for c, title in columns.items() if any(c in row for row in rows)}
    listed: Sequence[dict[str, Any]] = sorted(rows, key=lambda r: _rank(r.get(f"after_{chunk}_mean")))[
        :_SECTIONS_LISTED
    ]
    listed = sorted(listed, key=lambda r: r["z"])
    note = f"Correlations of chunks of {chunk} px, each with the section named; medians of errors. More is in sections.csv."
    if len(rows) > len(listed):
        note = f"The {len(listed)} sections that fit least. {note}"
    report.table([{title: row.get(c) for c, title in kept.items()} for row in listed], note)


def _rank(value: Any) -> float:
    return float(value) if value is not None and np.isfinite(value) else np.inf
