"""Previews: an image beside its instances, and a page that shows all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.files import replacing
from lamella.data.labelled_source import Part
from lamella.infer.maps import Target
from lamella.view.labels import colours, outlined
from lamella.view.pictures import Picture, beside, grey, png, shrink
from lamella.view.report import Headline, Report, Shown

_SIDE = 1024  # pixels of a preview's longer side
_THUMBNAIL = 320  # and of a picture on the page
_SHOWN = 200  # pictures on the page


def draw_preview(image: NDArray[Any], labels: NDArray[Any]) -> Picture:
    """An image (y, x) with outlines of its instances, beside the instances in colours."""
    shown = grey(image, missing=None)
    return beside([outlined(shown, labels), colours(labels)])


def preview_of(part: Part, labels: Target) -> Picture:
    """The preview of the middle section; large ones are shrunk, band by band, so that memory stays small."""
    depth, height, width = part.box.shape
    z, step = depth // 2, max(1, -(-max(height, width) // _SIDE))
    images, found = [], []
    rows = max(step, (1 << 22) // max(width, 1) // step * step)
    for y in range(0, height, rows):
        box = Box((z, y, 0), (z + 1, min(y + rows, height), width))
        images.append(shrunk(part.read(box)[0, 0], step))
        found.append(labels.read(box)[0, ::step, ::step])
    rows_shown = sum(len(i) for i in images)
    image, shown = np.concatenate(images), np.concatenate(found)
    return draw_preview(image, shown[:rows_shown, : image.shape[1]])


def shrunk(image: NDArray[Any], step: int) -> NDArray[Any]:
    """The mean of every ``step`` by ``step`` pixels; at the end of fewer."""
    if step == 1:
        return image
    width = [(0, -n % step) for n in image.shape]
    padded = np.pad(image.astype(np.float32), width, mode="edge")
    return padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).mean((1, 3))


def preview_whole(image: NDArray[Any], labels: NDArray[Any]) -> Picture:
    """The preview of an image (c, z, y, x) and its instances (z, y, x) that are in memory: its middle section, shrunk."""
    z, step = labels.shape[0] // 2, max(1, -(-max(labels.shape[1:]) // _SIDE))
    return draw_preview(shrunk(image[0, z], step), labels[z, ::step, ::step])


def write_preview(path: Path, picture: Picture) -> None:
    with replacing(path) as beside_:
        beside_.write_bytes(png(picture))


def write_page(
    path: Path, rows: Sequence[Mapping[str, Any]], left_out: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """The page: how many objects, a small picture of each image, what was left out, how it was made."""
    report = Report("Predicted instances", "Outlines over each image, and the instances in colours.")
    total = sum(int(row["objects"]) for row in rows)
    report.headlines([Headline("images", str(len(rows))), Headline("objects", str(total))])
    if left_out:
        report.section("Left out")
        report.code("\n".join(left_out))
    shown = rows[:_SHOWN]
    report.section("Images", f"The first {_SHOWN} of {len(rows)}." if len(rows) > _SHOWN else "")
    report.pictures([_thumbnail(path.parent, row) for row in shown])
    report.table([{k: row[k] for k in ("name", "objects", "size", "image")} for row in rows])
    report.provenance(facts)
    report.write(path)


def _thumbnail(folder: Path, row: Mapping[str, Any]) -> Shown:
    picture = np.asarray(iio.imread(folder / row["preview"]))
    return Shown(png(shrink(picture, 2 * _THUMBNAIL)), f"{row['name']}: {row['objects']} objects")
