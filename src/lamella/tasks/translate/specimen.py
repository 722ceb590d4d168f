"""Synthetic cells as a microscope would take them: a transmitted-light stack, and two stains at its middle slice.

```
FOLDER/im_c000_z***_t000_p***.png    transmitted light through focus, uint16
FOLDER/im_c001_z003_t000_p***.png    nuclei, at the middle slice only
FOLDER/im_c002_z003_t000_p***.png    cytoplasm and edges of cells
FOLDER/frames_meta.csv               the table, with the channels' names
FOLDER/specimen.json                 how they were made
```

Light falls off towards the corners of every image, the same at all positions. The same config and seed give the same images.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.core.files import replacing, write_json
from lamella.core.progress import progress
from lamella.core.provenance import provenance
from lamella.core.rng import stream
from lamella.core.volume import Meta
from lamella.io import open_volume
from lamella.io.frames import FRAMES
from lamella.io.plan import make_plan
from lamella.io.positions import create_positions
from lamella.tasks.translate.specimen_cells import make_cells
from lamella.tasks.translate.specimen_optics import Optics, fluoresce, through_focus

CHANNELS = ("transmitted", "nuclei", "cytoplasm")
PIXEL_UM, SLICE_UM = 0.65, 2.0  # a 10x objective


class SpecimenConfig(Config):
    """How many positions, and how hard they are. Lengths are in pixels."""

    positions: int = Field(12, ge=1, description="fields of view")
    slices: int = Field(7, ge=1, description="slices of the transmitted light")
    size: tuple[int, int] = Field((256, 256), description="height and width of an image")
    radius: tuple[float, float] = Field((17.0, 28.0), description="mean radii of cells")
    crowding: float = Field(0.6, gt=0, lt=1, description="share of the field that cells are to cover")
    optics: Optics = Field(Optics(), description="light and cameras")


def write_specimen(config: SpecimenConfig, seed: int, folder: Path) -> None:
    """Write all frames to a new ``folder``, which appears when it is whole."""
    box = Box.of((1, len(CHANNELS), config.slices, *config.size))
    middle = config.slices // 2
    listed = [[0, 0, z] for z in range(config.slices)] + [[0, c, middle] for c in (1, 2)]
    meta = Meta(
        axes=tuple("tczyx"),
        voxel_size=(1.0, 1.0, SLICE_UM, PIXEL_UM, PIXEL_UM),
        units=("", "", *("micrometer",) * 3),
        channel_names=CHANNELS,
        provenance={FRAMES: {"columns": ["t", "c", "z"], "rows": listed}},
    )
    plan = make_plan(box, "uint16", meta, (1, 1, 1, *config.size))
    with replacing(folder) as beside, progress("making cells", config.positions, "positions") as meter:
        names = [f"p{p:03d}" for p in range(config.positions)]
        create_positions(str(beside), dict.fromkeys(names, plan), kind="frames-png")
        for name in names:
            volume = open_volume(beside, dataset=name, writable=True)
            cells = make_cells(stream(seed, "translate", name, "cells"), config.size, config.radius, config.crowding)
            camera = stream(seed, "translate", name, "camera")
            stack = through_focus(camera, cells.layers, cells.heights, config.slices, config.optics)
            volume.write(Box((0, 0, 0, 0, 0), (1, 1, *box.shape[2:])), stack[None, None])
            for c, (stain, gain) in enumerate(((cells.nuclei, 60.0), (cells.cytoplasm, 25.0)), 1):
                image = fluoresce(camera, stain, config.optics, 300.0, gain)
                volume.write(Box((0, c, middle, 0, 0), (1, c + 1, middle + 1, *config.size)), image[None, None, None])
        write_json(beside / "specimen.json", provenance(config=config.to_dict(), seed=seed))
        meter.advance(config.positions)
