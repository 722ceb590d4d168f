"""The page of a validation: the best figures, VOI against the threshold, tables, and samples as pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.files import replacing
from lamella.io import open_volume
from lamella.recipe.validate.candidates import Candidate
from lamella.recipe.validate.score import reads, segmentation_name
from lamella.recipe.validate.tables import Row, Validation
from lamella.view import charts, labels, pictures
from lamella.view.pictures import Picture
from lamella.view.report import Headline, Report, Shown, number

if TYPE_CHECKING:
    from lamella.recipe.validate.run import Work

_SIDE = 384  # px; pictures are cut to this around their middle
_LISTED = 60
_ABOUT = """VOI is the variation of information between truth and objects, in bits: split is high where true objects are in parts, \
merge where several are one, and their sum is 0 where both agree. Rand split and Rand merge are shares of pairs of voxels, 1 where \
nothing is split or merged; adapted Rand is 1 - their harmonic mean. AP50 is the share of right objects, matched one to one with an IoU \
of at least 0.5, among all that are true or found. Figures are means over samples."""


def headlines(found: Validation) -> list[Headline]:
    """The few figures that tell most."""
    best = found.best()[0]
    where = f"{best['checkpoint']}, threshold {best['threshold']:g}"
    return [
        Headline("VOI sum", number(best["voi_sum"]), where),
        Headline("VOI split / merge", f"{number(best['voi_split'])} / {number(best['voi_merge'])}"),
        Headline("adapted Rand error", number(best["adapted_rand"])),
        Headline("AP at IoU 0.5", number(best["AP50"]), f"{best['predicted']} objects, {best['true']} true"),
    ]


def write_report(found: Validation, work: Work, candidates: Sequence[Candidate]) -> None:
    """Write ``report.html`` and the charts as files."""
    checkpoints, samples = len(found.checkpoints), len(found.samples)
    report = Report(
        "Heads, validated" if candidates[0].target == "classes" or checkpoints > 1 else "Affinities, validated",
        f"{checkpoints} checkpoint{'s' * (checkpoints > 1)}, {samples} sample{'s' * (samples > 1)}, objects by {work.method.kind}: "
        f"{reads(work.method)}. Best in {found.settings.best}.",
    )
    report.headlines(headlines(found))
    report.section("Against the threshold", _ABOUT)
    report.pictures([_chart(work, *each) for each in _charts(found)])
    report.section("The best of each checkpoint")
    report.table(found.best(), "All rows are in means.csv, those of each sample in metrics.csv.")
    _add_samples(report, found, work, candidates)
    report.section("The best checkpoint, sample by sample")
    report.table(_best_rows(found)[:_LISTED])
    report.provenance(work.facts)
    report.write(work.out / "report.html")


def _charts(found: Validation) -> list[tuple[str, bytes, str]]:
    means = found.means()
    levels = list(dict.fromkeys(row["threshold"] for row in means))
    by_name = {name: [row for row in means if row["checkpoint"] == name] for name in found.checkpoints}
    sums = {name: [row["voi_sum"] for row in rows] for name, rows in by_name.items()}
    best = found.best()[0]["checkpoint"]
    parts = {name: [row[name] for row in by_name[best]] for name in ("voi_split", "voi_merge", "voi_sum")}
    bands = {name: tuple(np.array(found.spread(best, name)).T) for name in parts} if len(found.samples) > 1 else None
    draw: Any = charts.lines
    return [
        ("voi.png", draw(levels, sums, "threshold", "VOI sum, bits", markers=True), "VOI sum of each checkpoint."),
        (
            "voi_parts.png",
            draw(levels, parts, "threshold", "VOI, bits", bands=bands, markers=True),
            f"{best}: split, merge and sum; the band holds all samples.",
        ),
        (
            "ap50.png",
            draw(
                levels, {n: [r["AP50"] for r in rows] for n, rows in by_name.items()}, "threshold", "AP50", markers=True
            ),
            "AP at IoU 0.5 of each checkpoint.",
        ),
    ]


def _chart(work: Work, name: str, data: bytes, caption: str) -> Shown:
    with replacing(work.out / name) as beside:
        beside.write_bytes(data)
    return Shown(data, caption)


def _best_rows(found: Validation) -> list[Row]:
    best = found.best()[0]
    at = (best["checkpoint"], best["threshold"])
    rows = [row for row in found.rows if (row["checkpoint"], row["threshold"]) == at]
    return sorted(rows, key=found._badness)[::-1]


def _add_samples(report: Report, found: Validation, work: Work, candidates: Sequence[Candidate]) -> None:
    best = found.best()[0]
    folder = work.out / "samples" / best["checkpoint"]
    kept = [row for row in _best_rows(found) if (folder / row["sample"]).is_dir()][: found.settings.pictures]
    if not kept:
        return
    between = "the boundary map, the fragments" if work.method.kind == "agglomeration" else "the first map"
    report.section("Samples", f"The worst first. Left to right: the image, {between}, the objects, the truth.")
    for row in kept:
        strip = _strip(folder / row["sample"], best["threshold"], candidates[0].target)
        caption = f"{row['sample']}: VOI {number(row['voi_sum'])}, AP50 {number(row['AP50'])}"
        report.pictures([Shown(pictures.png(strip), caption, wide=True)])


def _strip(folder: Path, threshold: float, target: str) -> Picture:
    """One row of pictures of a sample, of a volume its middle section."""
    shown = [pictures.grey(_section(folder, "raw").astype(np.float32), missing=None)]
    if os.path.isdir(folder / "fragments.ome.zarr"):
        shown.append(pictures.grey(_section(folder, "boundaries"), (0.0, 1.0), missing=None))
        shown.append(labels.colours(_section(folder, "fragments")))
    else:
        shown.append(pictures.grey(_section(folder, target), (0.0, 1.0), missing=None))
    shown += [labels.colours(_section(folder, name)) for name in (segmentation_name(threshold), "truth")]
    return pictures.beside([_enlarged(picture) for picture in shown])


def _section(folder: Path, name: str) -> NDArray[Any]:
    """(y, x) of the middle section of the last channel; at most ``_SIDE`` px around the middle."""
    volume = open_volume(str(folder / f"{name}.ome.zarr"))
    array = volume.read(volume.box)
    if "c" in volume.meta.axes:
        array = array[-1]
    if array.ndim == 3:
        array = array[len(array) // 2]
    start = [max((n - _SIDE) // 2, 0) for n in array.shape]
    return array[start[0] : start[0] + _SIDE, start[1] : start[1] + _SIDE]


def _enlarged(picture: Picture) -> Picture:
    factor = max(192 // max(picture.shape[:2]), 1)
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
