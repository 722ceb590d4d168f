"""Synthetic fluorescence images of cell nuclei with their true labels, in the layout that ``lamella train segment`` reads.

```
FOLDER/train/images/dense_00.tif     uint16, y x
FOLDER/train/labels/dense_00.tif     uint16: 0 background, 1 a heap that nobody could annotate, nuclei from 2
FOLDER/val/..., FOLDER/test/...      other images of the same kind
FOLDER/specimen.json                 how they were made
```

Half of the images are sparse, half are dense, where most nuclei touch. The light falls off towards one side, nuclei are of very
different brightness, out-of-focus light fills the gaps between them, and there is debris that is no nucleus. The same config and
seed give the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.core.files import replacing, write_json
from lamella.core.progress import progress
from lamella.core.provenance import provenance
from lamella.core.rng import stream
from lamella.core.volume import Meta
from lamella.io import create_volume
from lamella.tasks.segment.specimen_camera import Light, expose
from lamella.tasks.segment.specimen_cells import Cell, draw_cells, draw_heap, paint

PIXEL_UM = 0.325  # a 20x objective on a usual camera; a nucleus of radius 12 px is then 8 µm wide
BLOB = 1

Density = Literal["sparse", "dense"]
SETS = ("train", "val", "test")


class SpecimenConfig(Config):
    """How many images, and how hard they are. Lengths are in pixels."""

    train: int = Field(24, ge=1, description="images to train on")
    val: int = Field(6, ge=1, description="images to choose checkpoints and parameters with")
    test: int = Field(10, ge=1, description="images to score on")
    size: tuple[int, int] = Field((256, 256), description="height and width of an image")
    radius: tuple[float, float] = Field((7.0, 14.0), description="mean radii of nuclei")
    crowding: float = Field(0.8, gt=0, description="least distance of two nuclei's middles, of the sum of their radii")
    sparse: float = Field(0.10, gt=0, lt=1, description="share of a sparse image that nuclei cover")
    dense: float = Field(0.45, gt=0, lt=1, description="share of a dense image that they are to cover")
    heaps: float = Field(0.4, ge=0, le=1, description="share of images with a heap that nobody could annotate")
    debris: int = Field(6, ge=0, description="most specks of debris in an image")
    light: Light = Field(Light(), description="light and camera")


@dataclass(frozen=True)
class Field2D:
    """One image (uint16) and its labels (uint16), both (y, x)."""

    image: NDArray[np.uint16]
    labels: NDArray[np.uint16]


def make_field(config: SpecimenConfig, seed: int, name: str, density: Density, *, heap: bool) -> Field2D:
    """The image called ``name``: nuclei are placed, painted and exposed, each with its own chance."""
    place, colour, camera = (stream(seed, "specimen", name, part) for part in ("cells", "paint", "camera"))
    piled = draw_heap(place, config.size, config.radius) if heap else []
    share = config.sparse if density == "sparse" else config.dense
    cells = draw_cells(place, config.size, config.radius, config.crowding, share, avoid=piled)
    painted = paint(colour, config.size, cells, piled, int(place.integers(0, config.debris + 1)))
    _, number = np.unique(painted.owner, return_inverse=True)  # nuclei that lie outside have no number
    labels = np.where(painted.owner >= 0, number.reshape(config.size) + BLOB, 0)
    labels[painted.heap & (labels == 0)] = BLOB
    return Field2D(expose(camera, painted.light, config.light), labels.astype(np.uint16))


def write_specimen(config: SpecimenConfig, seed: int, folder: Path) -> None:
    """Write all images and labels to a new ``folder``, which appears when it is whole."""
    total = config.train + config.val + config.test
    with replacing(folder) as beside, progress("making cells", total, "images") as meter:
        for part, count in zip(SETS, (config.train, config.val, config.test), strict=True):
            for number in range(count):
                density: Density = "dense" if number % 2 else "sparse"
                heap = bool(stream(seed, "specimen", part, number).random() < config.heaps)
                made = make_field(config, seed, f"{part}{number}", density, heap=heap)
                name = f"{density}_{number:02d}.tif"
                _write(beside / part / "images" / name, made.image)
                _write(beside / part / "labels" / name, made.labels)
                meter.advance()
        write_json(beside / "specimen.json", provenance(config=config.to_dict(), seed=seed))


def _write(file: Path, array: NDArray[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    meta = Meta(("y", "x"), (PIXEL_UM, PIXEL_UM), ("micrometer", "micrometer"), name=file.stem)
    (volume,) = create_volume(file, box=Box.of(array.shape), dtype=array.dtype, meta=meta)
    volume.write(volume.box, array)


__all__ = ["BLOB", "PIXEL_UM", "SETS", "Cell", "SpecimenConfig", "make_field", "write_specimen"]
