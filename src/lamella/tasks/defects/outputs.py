"""What lies beside masks: a table of sections, pictures of the worst, probabilities.

```
OUT.ome.zarr              the masks
OUT.sections.csv          z, share of pixels inside and near, number of defects
OUT.preview.png           --plot: sections with most defects, and the same with masks in colours
OUT.maps.ome.zarr         --maps: probabilities of each kind, and where data are missing
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing, write_text
from lamella.core.tables import csv_text
from lamella.core.volume import Volume
from lamella.io.layouts import stem
from lamella.io.place import Place
from lamella.tasks.defects.settings import FindSettings
from lamella.view import pictures
from lamella.view.pictures import Picture

_SECTIONS = 4  # drawn
_SIDE = 768  # pixels of a drawn section's longer side
_INSIDE, _NEAR = (255, 60, 60), (255, 210, 60)


@dataclass(frozen=True)
class Beside:
    """Where they are; None for what is not written."""

    table: Path | None
    preview: Path | None
    maps: str | None


@dataclass(frozen=True)
class Found:
    """What came of a search: ``rows`` are z (from 0), pixels normal, near, inside, and number of defects of each section."""

    path: str
    rows: NDArray[np.int64]
    box: Box
    beside: tuple[Path, ...]
    maps: str | None

    @property
    def inside(self) -> float:
        """Share of all pixels that are inside a defect."""
        return float(self.rows[:, 3].sum() / max(self.rows[:, 1:4].sum(), 1))

    @property
    def near(self) -> float:
        """Share of all pixels that are near one."""
        return float(self.rows[:, 2].sum() / max(self.rows[:, 1:4].sum(), 1))


def beside(out: str, settings: FindSettings) -> Beside:
    """What is written beside ``out``; in a bucket only the maps are."""
    local = Place.parse(out).local
    if local is None:
        if settings.plot:
            raise UserError(f"pictures are drawn into files, and {out} is none; leave --plot out")
        return Beside(
            None, None, f"{out.rstrip('/').removesuffix('.ome.zarr')}.maps.ome.zarr" if settings.maps else None
        )
    whole = local.parent if "*" in local.name else local
    base = whole.with_name(stem(str(whole)))
    return Beside(
        Path(f"{base}.sections.csv"),
        Path(f"{base}.preview.png") if settings.plot else None,
        f"{base}.maps.ome.zarr" if settings.maps else None,
    )


def write_table(path: Path, rows: NDArray[np.int64], box: Box) -> Path:
    """One row for each section; z as in the source."""
    first = box.start[0] if len(box.shape) == 3 else 0
    table = [
        {"z": first + int(z), "inside": inside / area, "near": near / area, "defects": int(count)}
        for z, normal, near, inside, count in rows.tolist()
        for area in (max(normal + near + inside, 1),)
    ]
    write_text(path, csv_text(table))
    return path


def write_preview(path: Path, source: Volume, masks: Volume, rows: NDArray[np.int64]) -> Path:
    """The sections with most pixels inside, in order of z, each beside itself with its masks."""
    worst = np.sort(np.argsort(-rows[:, 3], kind="stable")[:_SECTIONS])
    drawn = [picture for z in worst for picture in _pair(source, masks, int(z))]
    with replacing(path) as temporary:
        temporary.write_bytes(pictures.png(pictures.beside(drawn, columns=2)))
    return path


def _pair(source: Volume, masks: Volume, z: int) -> tuple[Picture, Picture]:
    image = pictures.grey(_thinned(source, z))
    mask = _thinned(masks, z)
    shown = image.astype(np.float32)
    for value, colour in ((1, _NEAR), (2, _INSIDE)):
        share = (mask == value)[..., None] * (0.25 if value == 1 else 0.6)
        shown = shown * (1 - share) + share * np.array(colour, np.float32)
    return image, shown.astype(np.uint8)


def _thinned(volume: Volume, z: int) -> NDArray[np.generic]:
    """Every so many pixels of a section, read band by band so that memory stays small."""
    (top, left), (bottom, right) = volume.box.start[-2:], volume.box.stop[-2:]
    step = max(1, -(-max(bottom - top, right - left) // _SIDE))
    rows = max(1, (1 << 22) // max(right - left, 1) // step) * step
    lead = (volume.box.start[0] + z,) if len(volume.box.shape) == 3 else ()
    bands = []
    for y in range(top, bottom, rows):
        box = Box((*lead, y, left), (*(n + 1 for n in lead), min(y + rows, bottom), right))
        band = volume.read(box)
        bands.append(band.reshape(band.shape[-2:])[::step, ::step])
    return np.concatenate(bands)
