"""Make the picture of the README from a demonstration on the synthetic specimen.

lamella demo --out demo
python docs/make_picture.py demo docs/images/aligned.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.tasks.align.scores import FieldStack
from lamella.tasks.align.volume import fields_path
from lamella.view import pictures


def cut(volume: Volume, y: int) -> NDArray[np.uint8]:
    """The stack seen from the side: five rows averaged, each section in its own contrast, in true proportions."""
    z, _, width = volume.box.shape
    slab = volume.read(Box((0, y - 2, 0), (z, y + 3, width))).astype(np.float32)
    mean = np.where((slab == 0).any(axis=1), 0, slab.mean(axis=1))
    rows = np.stack([pictures.grey(row[None])[0] for row in mean])
    return pictures.cross_section(rows, volume.meta.voxel_size[0] / volume.meta.voxel_size[1])


def show(axes: Axes, picture: NDArray[np.uint8], title: str) -> None:
    axes.imshow(picture, interpolation="antialiased")
    axes.set_title(title, fontsize=9, loc="left", color="#606060")
    axes.axis("off")


def neighbours(volume: Volume, z: int) -> NDArray[np.uint8]:
    """Two neighbouring sections over each other: magenta and green where they differ."""
    _, height, width = volume.box.shape
    a, b = (pictures.grey(volume.read(Box((s, 0, 0), (s + 1, height, width)))[0]) for s in (z - 1, z))
    return pictures.overlay(a, b)


def draw(demo: Path, z: int) -> Figure:
    source, aligned = open_volume(str(demo / "specimen/source.ome.zarr")), open_volume(str(demo / "aligned.ome.zarr"))
    _, height, width = source.box.shape
    fields = FieldStack.of(open_volume(fields_path(aligned.path)), aligned)
    field = fields.read(z, Box((0, 0), (height, width)))
    colour, key = pictures.field_colour(field), pictures.field_legend(72)
    colour[-80:-8, 8:80] = np.where(np.hypot(*np.mgrid[-36:36, -36:36])[..., None] < 35, key, colour[-80:-8, 8:80])
    figure = Figure(figsize=(11, 5.9), layout="constrained", dpi=110)
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.1, 1))
    left, middle, right = top.subplots(1, 3)
    show(left, neighbours(source, z), "two neighbouring sections, as they come")
    show(middle, neighbours(aligned, z), "the same two, aligned")
    show(right, colour, f"the field that did it (up to {pictures.longest(field):.0f} px)")
    before, after = bottom.subplots(1, 2)
    show(before, cut(source, height // 2), "the stack from the side, as it comes")
    show(after, cut(aligned, height // 2), "aligned")
    return figure


if __name__ == "__main__":
    folder, out = (Path(argument) for argument in sys.argv[1:3])
    draw(folder, int(sys.argv[3]) if len(sys.argv) > 3 else 7).savefig(out)
