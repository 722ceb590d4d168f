"""The page of a coarse alignment: figures, curves over the sections, and the stack before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.coarse import Coarse, Placed, Section
from lamella.view import charts, pictures
from lamella.view.report import Headline, Report, Shown

_SIDE = 320  # px of a picture
_LISTED = 12
_ROWS = 256  # sections in a cut
_ABOUT_LINKS = """Each section was laid on the two before it. Confidence is the share of its blocks that agree on the transform by which it \
was joined to the others; sections that have nothing to do with each other reach 0. Triangle is how far, in voxels of mip 0, going by way \
of the section before leads from the direct way."""


def write_coarse_page(found: Coarse, path: Path) -> Path:
    """Write the page for a measurement; the sections are read again, at the mip that it was made at."""
    volume = open_volume(found.source, mip=found.mip, dataset=found.dataset)
    placed = found.view(volume)
    report = Report(f"Where the sections of {Path(found.source).name} lie", f"Measured at mip {found.mip}.")
    report.headlines(_headlines(found))
    report.section("Section by section", _ABOUT_LINKS)
    report.pictures([Shown(_confidence(found)), Shown(_motion(found))])
    report.table([_row(s) for s in worst(found)], "The least sure sections.")
    report.section("The stack", "Cuts through the middle, z down: what belongs together should run on from row to row.")
    for axis, name in ((2, "x"), (1, "y")):
        shown = {"before": volume, "after": placed}
        report.pictures([Shown(pictures.png(_cut(v, placed, axis)), f"{k}, {name} across") for k, v in shown.items()])
    report.section("Neighbours", "A section in magenta on the one it was laid on in green: grey where they agree.")
    chosen = _chosen(found)
    report.pictures([_overlay(v, s, when) for s in chosen for when, v in (("before", volume), ("after", placed))])
    report.provenance(found.provenance | {"settings": found.settings})
    report.write(path)
    return path


def summary(found: Coarse) -> list[str]:
    """What was found, one thing a line; what needs a look comes last."""
    lines = [f"{h.name}: {h.value}" + (f"  ({h.note})" if h.note else "") for h in _headlines(found)]
    lines += [f"section {z} has no sure link to those before it; look at the page" for z in found.joints]
    return lines


def worst(found: Coarse) -> list[Section]:
    """The sections that hold data and are least sure, the worst first."""
    there = [s for s in found.sections if s.state in ("placed", "unsure")]
    return sorted(there, key=lambda s: s.confidence)[:_LISTED]


def _headlines(found: Coarse) -> list[Headline]:
    states = [s.state for s in found.sections]
    confidence = [s.confidence for s in found.sections if s.state == "placed"]
    moved = _motions(found)
    note = f"{states.count('lost')} lost, {states.count('unsure')} that fit nothing"
    return [
        Headline("sections placed", f"{states.count('placed') + 1} of {len(states)}", note),
        Headline(
            "confidence, median / least", f"{np.median(confidence):.2f} / {min(confidence):.2f}" if confidence else "-"
        ),
        Headline("largest shift, mip 0", f"{np.hypot(moved[:, 0], moved[:, 1]).max():.0f} px"),
        Headline("largest rotation", f"{np.abs(moved[:, 2]).max():.1f} degrees"),
        Headline("scale", f"{moved[:, 3].min():.3f} to {moved[:, 3].max():.3f}"),
        Headline("box that holds all, mip 0", found.output, f"of the source {found.box}"),
    ]


def _motions(found: Coarse) -> NDArray[np.float64]:
    """For each section the shift of its middle (y, x), its rotation in degrees and its scale against the anchor."""
    middle = np.array([*[(s.start + s.stop - 1) / 2 for s in _ranges(found.box)[1:]], 1.0])
    m = found.matrices
    shift = (m @ middle)[:, :2] - middle[:2]
    angle = np.rad2deg(np.arctan2(m[:, 1, 0] - m[:, 0, 1], m[:, 0, 0] + m[:, 1, 1]))
    scale = np.sqrt(np.abs(np.linalg.det(m[:, :2, :2])))
    return np.column_stack([shift, angle, scale])


def _ranges(box: str) -> list[slice]:
    return [slice(*map(int, part.split(":"))) for part in box.split(",")]


def _confidence(found: Coarse) -> bytes:
    z = [s.z for s in found.sections]
    values = [np.nan if s.state in ("lost", "anchor") else s.confidence for s in found.sections]
    return charts.lines(z, {"confidence": values}, "section", "share of blocks that agree", markers=len(z) < 60)


def _motion(found: Coarse) -> bytes:
    moved = _motions(found)
    series = {"dy": moved[:, 0], "dx": moved[:, 1]}
    return charts.lines([s.z for s in found.sections], series, "section", "shift of the middle, px of mip 0")


def _row(section: Section) -> dict[str, Any]:
    residual = next((link.residual for link in section.links if link.to == section.after), None)
    return {
        "section": section.z,
        "laid on": section.after,
        "state": section.state,
        "confidence": section.confidence,
        "residual, px": residual,
        "triangle, px": section.triangle,
    }


def _chosen(found: Coarse) -> list[Section]:
    """The two least sure sections, and two spread over the stack."""
    joined = [s for s in found.sections if s.state == "placed" and s.after is not None]
    spread = [joined[len(joined) // 3], joined[2 * len(joined) // 3]] if joined else []
    chosen = {s.z: s for s in [*worst(found)[:2], *spread] if s.after is not None}
    return list(chosen.values())


def _overlay(volume: Volume, section: Section, when: str) -> Shown:
    assert section.after is not None
    pair = [pictures.grey(pictures.shrink(_read(volume, volume, z), _SIDE)) for z in (section.z, section.after)]
    caption = f"{when}: {section.z} on {section.after}, confidence {section.confidence:.2f}"
    return Shown(pictures.png(pictures.overlay(*pair)), caption)


def _read(volume: Volume, like: Volume, z: int) -> NDArray[Any]:
    """Section ``z`` in the box of ``like``."""
    wanted = Box((z, *like.box.start[1:]), (z + 1, *like.box.stop[1:]))
    inside = wanted.intersect(volume.box)
    result = np.zeros(wanted.shape, volume.dtype)
    if not inside.is_empty:
        result[inside.slices(wanted.start)] = volume.read(inside)
    return result[0]


def _cut(volume: Volume, placed: Placed, axis: int) -> NDArray[np.uint8]:
    """The middle line of every section along ``axis`` (1 y, 2 x), a row each, stretched so that it can be seen."""
    other = 3 - axis
    middle = (volume.box.start[other] + volume.box.stop[other]) // 2
    start, stop = list(placed.box.start), list(placed.box.stop)
    start[other], stop[other] = middle, middle + 1
    stop[0] = min(stop[0], start[0] + _ROWS)
    rows = []
    for z in range(start[0], stop[0]):
        line = Box((z, *start[1:]), (z + 1, *stop[1:]))
        inside = line.intersect(volume.box)
        row = np.zeros(line.shape, volume.dtype)
        if not inside.is_empty:
            row[inside.slices(line.start)] = volume.read(inside)
        rows.append(pictures.grey(row.reshape(1, -1))[0])
    return pictures.cross_section(np.stack(rows), max(1.0, 96 / len(rows)))
