"""The page that shows where an aligned volume does not fit: figures, curves over the sections, and the worst places as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.provenance import provenance
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.tasks.align.misalignment import Misalignment, stem_of
from lamella.tasks.align.misalignment_settings import MisalignmentSettings
from lamella.tasks.align.scores import tile_of
from lamella.view import charts, pictures
from lamella.view.report import Headline, Report, Shown

_SHOWN = 8  # places
_MAPS = 4
_PLACE = 192  # px around a place
_ABOUT = """The misfit of a place is the share of its variance that moving it by a few pixels would explain beyond what it explains where it \
lies: 0 where nothing is to be gained, 1 at most. Tissue that changes from section to section has a low correlation but no misfit. Off are \
places whose misfit is above what 95 % of places reach against a section that has nothing to do with them."""


def headlines(found: Misalignment) -> list[Headline]:
    """The few figures that tell most."""
    rows = [p["correlation"] for p in found.pairs if p["places"]]
    chance = "-" if found.threshold is None else f"{found.threshold:.3f}"
    worst = found.places[0] if found.places else None
    return [
        Headline("places that are off", f"{found.off:.2%}" if found.threshold is not None else "-", "by chance 5 %"),
        Headline("misfit by chance, p95", chance),
        Headline(
            "largest misfit", f"{worst['misfit']:.2f}" if worst else "-", f"at {worst['neuroglancer']}" if worst else ""
        ),
        Headline("correlation of neighbours", f"{np.mean(rows):.3f}" if rows else "-"),
    ]


def write_misalignment_page(
    found: Misalignment, aligned: str, settings: MisalignmentSettings, facts: Mapping[str, Any] | None = None
) -> Path:
    """Write the page of ``found``, a map of ``aligned``, beside it."""
    path = Path(f"{stem_of(found.path)}.html")
    volume, chart = open_volume(aligned, mip=settings.mip), open_volume(found.path)
    report = Report(f"Where {Path(aligned).name} does not fit", f"{aligned} at mip {settings.mip}.")
    report.headlines(headlines(found))
    report.section("Section by section", _ABOUT)
    z = [p["z"] for p in found.pairs]
    off = {"off": [100 * p["off"] for p in found.pairs]}
    fits = {
        "where it lies": [p["correlation"] for p in found.pairs],
        "where it fits best": [p["best"] for p in found.pairs],
    }
    few = len(z) < 60
    report.pictures(
        [
            Shown(charts.lines(z, off, "section", "places that are off, %", markers=few)),
            Shown(charts.lines(z, fits, "section", "mean correlation with the section before", markers=few)),
        ]
    )
    report.pictures(_maps(found, chart))
    report.section(
        "The worst places",
        "The section before and the section in turn, and both laid over each other: the section before in magenta, the section in green. "
        "Coordinates are x, y, z in voxels of the aligned volume, to be pasted into Neuroglancer.",
    )
    for place in found.places[:_SHOWN]:
        report.pictures(_pictures(volume, place))
    report.table([_row(p) for p in found.places], "dy, dx: where it would fit better, px.", sortable=True)
    report.provenance(provenance(aligned=aligned, settings=settings.to_dict(), **(facts or {})))
    report.write(path)
    return path


def _maps(found: Misalignment, chart: Volume) -> list[Shown]:
    """The maps of the sections with most places off."""
    ranked = sorted((p for p in found.pairs if p["places"]), key=lambda p: -(p["misfit_p99"]))[:_MAPS]
    shown = []
    for pair in ranked:
        z = pair["z"]
        values = chart.read(Box((z, *chart.box.start[1:]), (z + 1, *chart.box.stop[1:])))[0].astype(np.float32)
        misfit = np.where(values == 0, np.nan, (values - 1) / 254)
        shown.append(Shown(pictures.png(pictures.shrink(pictures.heat(misfit, 0.25), 320)), f"section {z}, 0 to 0.25"))
    return shown


def _pictures(volume: Volume, place: Mapping[str, Any]) -> list[Shown]:
    y, x, z, previous = place["y"], place["x"], place["z"], place["previous"]
    box = Box((y - _PLACE // 2, x - _PLACE // 2), (y + _PLACE // 2, x + _PLACE // 2))
    pair: list[NDArray[np.uint8]] = [pictures.grey(tile_of(volume, s, box)) for s in (previous, z)]
    told = f"{place['neuroglancer']}: misfit {place['misfit']:.2f}, off by about {place['dy']:.0f}, {place['dx']:.0f} px (y, x)"
    return [
        Shown(pictures.gif(pair), told, 2 * _PLACE),
        Shown(pictures.png(pictures.overlay(*pair)), f"section {previous} and section {z}", 2 * _PLACE),
    ]


def _row(place: Mapping[str, Any]) -> dict[str, Any]:
    names = {"neuroglancer": "x, y, z", "misfit": "misfit", "above_chance": "above chance", "dy": "dy", "dx": "dx"}
    names |= {"correlation": "correlation", "best": "where it fits best", "pixels": "size, px²"}
    return {title: place[key] for key, title in names.items()}
