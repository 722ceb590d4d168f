"""Pictures of an inspection, as files and on one page."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.errors import UserError
from lamella.core.files import refuse_existing, replacing
from lamella.core.provenance import provenance
from lamella.tasks.align.inspect import Inspection, Level
from lamella.view import pictures
from lamella.view.pictures import Picture
from lamella.view.report import Headline, Report, Shown, number

_SIDE = 176  # px of a picture of one map, the same for coarse and fine levels
_LARGEST = 768  # px of a picture of the pair
_ZERO = 0.02  # px; shorter fields are as good as none
_ABOUT_ENCODINGS = """What the encoders make of the two sections, coarse levels first; the source above, the target below. The first \
picture shows the three main directions in which the maps vary as red, green and blue, the same for both sections: what has one colour \
in both is alike to the net. The others are the maps that vary most. Maps without contrast have not learnt anything."""
_ABOUT_FIELDS = """The field after each level, coarse to fine, in pixels of the image, and below it what that level added. Hue is the \
direction in which to look, strength the distance."""
_ABOUT_CORRELATION = """How alike the encodings are at each pixel (cosine, from 0, dark, to 1): above as the level found them, looked up \
through the field of the coarser level, below through its own. A level that does its work makes its picture brighter."""


def write_inspection(
    found: Inspection, out: Path, num_maps: int, facts: Mapping[str, Any], overwrite: bool = False
) -> Path:
    """Write ``out``: pictures, ``levels.csv`` and ``report.html``, whose path is returned. Refuses to replace a folder unasked."""
    refuse_existing(out, overwrite=overwrite)
    if out.exists() and not (out / "levels.csv").is_file():
        raise UserError(f"{out} is not replaced, since it holds no inspection; remove it or choose another --out")
    with replacing(out) as beside:
        beside.mkdir()
        files = draw(found, num_maps)
        for name, data in files.items():
            (beside / name).write_bytes(data)
        (beside / "levels.csv").write_text(_csv(found.rows()))
        _page(found, files, facts).write(beside / "report.html")
        if out.exists():
            shutil.rmtree(out)
    return out / "report.html"


def draw(found: Inspection, num_maps: int) -> dict[str, bytes]:
    """All pictures by file name."""
    pair = found.pair
    source, target, aligned = (_whole(pictures.grey(x)) for x in (pair.source, pair.target, found.aligned))
    left = np.where((found.aligned > 0) & (pair.target > 0), np.abs(found.aligned - pair.target), np.nan)
    files = {
        "source.png": pictures.png(source),
        "target.png": pictures.png(target),
        "aligned.png": pictures.png(aligned),
        "difference.png": pictures.png(_whole(pictures.heat(left, 0.5))),
        "field.png": pictures.png(_whole(pictures.field_colour(found.field))),
        "before.gif": pictures.gif([target, source]),
        "after.gif": pictures.gif([target, aligned]),
        "fields.png": pictures.png(_fields(found.levels)),
        "field_legend.png": pictures.png(pictures.field_legend()),
        "correlation.png": pictures.png(_correlations(found.levels)),
    }
    for level in found.levels:
        files[f"encodings_{level.level}.png"] = pictures.png(_encodings(level, num_maps))
    return files


def headlines(found: Inspection) -> list[Headline]:
    """The few figures that tell most."""
    finest, length = found.levels[-1], np.hypot(*found.field)
    silent, maps = (sum(int(row[key]) for row in found.rows()) for key in ("silent maps", "maps"))
    return [
        Headline("correlation of the images", number(finest.images_after), f"before {number(finest.images_before)}"),
        Headline("correlation of the encodings", number(float(finest.after.mean())), f"mirrored {number(finest.null)}"),
        Headline(
            "length of the field, mean", f"{float(length.mean()):.2f} px", f"longest {float(length.max()):.1f} px"
        ),
        Headline("maps that say nothing", f"{silent} of {maps}"),
    ]


def remark(found: Inspection) -> str | None:
    """What is plainly wrong, if anything is."""
    if float(np.hypot(*found.field).mean()) < _ZERO:
        return (
            "The field is as good as zero: either these sections fit already, or the net has collapsed to answering nothing, which "
            "training rarely recovers from. Lower task.smoothness.weight or trainer.learning_rate and begin again."
        )
    if found.levels[-1].after.mean() <= found.levels[-1].null:
        return "At the finest level the aligned encodings are no more alike than mirrored ones: the net matches nothing here."
    return None


def _page(found: Inspection, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> Report:
    pair = found.pair
    z = pair.box.start[-3] + 1
    title = f"Inside {Path(str(facts.get('run', 'a net'))).name}"
    report = Report(title, f"Section {z} of {pair.path} aligned to section {z - 1}, at {pair.box}, mip {pair.mip}.")
    report.headlines(headlines(found))
    if wrong := remark(found):
        report.text(wrong)
    report.section("The pair", "Target and source in turn as they are, and target and aligned source.")
    report.pictures([Shown(files["before.gif"], "before"), Shown(files["after.gif"], "after")])
    names = {
        "aligned": "aligned source",
        "difference": "what remains between aligned source and target",
        "field": "the field",
    }
    report.pictures([Shown(files[f"{name}.png"], text) for name, text in names.items()])
    report.section("Level by level")
    report.table(
        found.rows(),
        "Correlations of encodings are mean cosines; those of images are Pearson's, at the size of the level. Lengths are in pixels of "
        "the image; moved is what the level added.",
    )
    report.section("Fields", _ABOUT_FIELDS)
    report.pictures(
        [Shown(files["fields.png"], _order(found), wide=True), Shown(files["field_legend.png"], "where to look")]
    )
    report.section("Correlation of encodings", _ABOUT_CORRELATION)
    report.pictures([Shown(files["correlation.png"], _order(found), wide=True)])
    report.section("Encodings", _ABOUT_ENCODINGS)
    for level in found.levels:
        caption = f"level {level.level}: {len(level.source)} maps, a pixel covers {level.scale} px of the image"
        report.pictures([Shown(files[f"encodings_{level.level}.png"], caption, wide=True)])
    report.provenance(provenance(**facts))
    return report


def _order(found: Inspection) -> str:
    return "levels " + ", ".join(str(level.level) for level in found.levels)


def _fields(levels: Sequence[Level]) -> Picture:
    limit = max(pictures.longest(level.scale * level.field) for level in levels)
    fields = [pictures.field_colour(level.scale * level.field, limit) for level in levels]
    added = [pictures.field_colour(level.scale * level.residual, limit) for level in levels]
    return _grid([fields, added])


def _correlations(levels: Sequence[Level]) -> Picture:
    return _grid(
        [[pictures.heat(level.before, 1.0) for level in levels], [pictures.heat(level.after, 1.0) for level in levels]]
    )


def _encodings(level: Level, num_maps: int) -> Picture:
    """Source above, target below: main directions as a colour, then the maps that vary most."""
    both = np.stack([level.source, level.target])
    colours = main_directions(both)
    chosen = np.argsort(-both.std((0, 2, 3)), kind="stable")[:num_maps]
    rows = []
    for image, colour in zip(both, colours, strict=True):
        rows.append([colour, *(pictures.grey(image[i], _limits(both[:, i]), missing=None) for i in chosen)])
    return _grid(rows)


def main_directions(both: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encodings (n, c, y, x) as pictures (n, y, x, 3): principal components of all n together as red, green and blue."""
    num, maps, height, width = both.shape
    pixels = both.transpose(0, 2, 3, 1).reshape(-1, maps).astype(np.float64)
    pixels = pixels - pixels.mean(0)
    _, directions = np.linalg.eigh(pixels.T @ pixels)
    found = pixels @ directions[:, ::-1][:, :3]
    low, high = np.percentile(found, [1, 99], axis=0)
    shown = np.clip((found - low) / np.maximum(high - low, 1e-12), 0, 1)
    shown = np.pad(shown, ((0, 0), (0, 3 - shown.shape[1])))  # fewer than three maps
    return (255 * shown).astype(np.uint8).reshape(num, height, width, 3)


def _limits(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high)


def _grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Pictures of one place at several sizes, brought to one."""
    shown = [_sized(picture) for row in rows for picture in row]
    return pictures.beside(shown, columns=len(rows[0]))


def _sized(picture: Picture) -> Picture:
    """The picture with its longer side at ``_SIDE``; pixels stay squares."""
    small = pictures.shrink(picture, _SIDE)
    rows, columns = (
        np.arange(n * _SIDE // max(small.shape[:2])) * max(small.shape[:2]) // _SIDE for n in small.shape[:2]
    )
    return small[rows][:, columns]


def _whole(picture: Picture) -> Picture:
    return pictures.shrink(picture, _LARGEST)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
