"""One source of training windows: a data set of an archive or a volume, at the mip asked for, and the part of it to draw from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.box import Box, parse_box
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.data.sections import AtMip
from lamella.data.windows import Windows, windows
from lamella.io import open_volume
from lamella.io.open import contents_of
from lamella.io.place import Place

_MASKS = "masks"  # a data set of this name in an archive holds masks, not images


class SourceConfig(Config):
    """Where windows come from. Boxes are START:STOP for z,y,x (n,z,y,x in archives) in voxels of ``mip``."""

    path: str = Field(description="archive, volume or folder of sections")
    dataset: str | None = Field(None, description="data set of an archive; all of them (but 'masks') if not given")
    mip: int | None = Field(
        None, ge=0, description="mip to train at, downsampled if it is not stored; the finest stored if not given"
    )
    bbox: str | None = Field(None, description="box to draw from")
    z: str | None = Field(None, description="sections to draw from, START:STOP")
    exclude: tuple[str, ...] = Field((), description="boxes that no window may touch")
    masks: str | None = Field(None, description="volume or archive of masks (0, 1, 2) on the same voxels as the images")
    weight: float = Field(1.0, gt=0, description="how often its windows are drawn, relative to those of other sources")


@dataclass(frozen=True)
class StackSource:
    """A source ready to be read: ``selection`` is the box to draw from, ``mip`` what its images are at."""

    images: AtMip
    masks: AtMip | None
    mip: int
    selection: Box
    windows: Windows
    weight: float

    def read_masks(self, box: Box) -> NDArray[np.float32]:
        """Mask values of ``box``, zeros where there are no masks."""
        if self.masks is None:
            return np.zeros(box.shape, np.float32)
        values = self.masks.masks(box)
        if values.size and (values.max() > 2 or values.min() < 0):
            raise UserError(
                f"masks {self.masks.volume.path}, box {box}: values run from {values.min()} to {values.max()}; "
                "masks hold 0 (normal), 1 (near a defect) and 2 (inside)"
            )
        return values.astype(np.float32)


def open_sources(config: SourceConfig, window: tuple[int, int, int]) -> list[StackSource]:
    """The data sets that ``config`` names, each checked to hold windows of shape ``window`` (z, y, x)."""
    names = [config.dataset] if config.dataset is not None else _image_names(config.path)
    return [_open_source(config, name, window) for name in names]


def _image_names(path: str) -> list[str | None]:
    contents = contents_of(Place.parse(path))
    if contents is None:
        return [None]  # FILE/DATASET, or a mistake that open_volume explains
    names: list[str | None] = [n for n in contents.datasets if n.rsplit("/", 1)[-1] != _MASKS]
    if not names:
        raise UserError(f"{path} holds only masks; give the archive of the images, and this one as its 'masks'")
    return names


def _open_source(config: SourceConfig, dataset: str | None, window: tuple[int, int, int]) -> StackSource:
    images, mip = _at_mip(config.path, dataset, config.mip)
    if images.volume.dtype.kind not in "uif":
        raise UserError(f"{config.path} holds {images.volume.dtype}; sections must be integers or floats")
    selection = _select(config, images.box)
    full = (1,) * (images.box.ndim - 3) + window
    excluded = [_parse(text, images.box, config.path) for text in config.exclude]
    found = windows(selection, full, excluded)
    if not found.starts:
        raise UserError(_too_small(config, images.volume, selection, window, mip))
    masks = _open_masks(config, dataset, images, mip)
    return StackSource(images, masks, mip, selection, found, config.weight)


def _at_mip(path: str, dataset: str | None, mip: int | None) -> tuple[AtMip, int]:
    """The volume at ``mip``: stored, or downsampled from the coarsest stored mip that is finer."""
    first = open_volume(path, dataset=dataset)
    axes = " ".join(first.meta.axes)
    if axes not in ("z y x", "n z y x"):
        raise UserError(f"{path} has axes {axes}; training needs sections, z y x, or stacks of them, n z y x")
    finest = int(first.meta.provenance.get("mip", 0)) if axes == "n z y x" else 0
    mip = finest if mip is None else mip
    if mip < finest:
        raise UserError(
            f"mip {mip} of {path} does not exist: its stacks were drawn at mip {finest}; choose that or a higher one"
        )
    stored = min(mip - finest, _num_mips(path, dataset) - 1)
    volume = first if stored == 0 else open_volume(path, dataset=dataset, mip=stored)
    return AtMip(volume, 2 ** (mip - finest - stored)), mip


def _num_mips(path: str, dataset: str | None) -> int:
    contents = contents_of(Place.parse(path))
    if contents is None:
        return 1
    name = dataset if dataset is not None else next(iter(contents.datasets))
    return contents.datasets[name].num_mips


def _select(config: SourceConfig, box: Box) -> Box:
    """The box that ``bbox`` and ``z`` leave."""
    selection = _parse(config.bbox, box, config.path) if config.bbox else box
    if config.z is None:
        return selection
    axis = box.ndim - 3
    z = _parse(config.z, Box((box.start[axis],), (box.stop[axis],)), f"{config.path}, z")
    sections = Box(
        (*selection.start[:axis], *z.start, *selection.start[axis + 1 :]),
        (*selection.stop[:axis], *z.stop, *selection.stop[axis + 1 :]),
    )
    return selection.intersect(sections)


def _parse(text: str, box: Box, where: str) -> Box:
    try:
        return parse_box(text, box)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _too_small(config: SourceConfig, volume: Volume, selection: Box, window: Iterable[int], mip: int) -> str:
    sections, crop, _ = window
    depth, height, width = selection.shape[-3:]
    what = f"{volume.path} at mip {mip} offers {depth} sections of {height} x {width} pixels ({selection})"
    if depth < sections:
        return f"{what}, a window needs {sections} sections; lower data.sections or choose a longer stack"
    if min(height, width) < crop:
        return f"{what}, a window needs {crop} x {crop}; lower data.crop, choose a finer mip or a larger bbox"
    return f"{what}, but every window of {sections} x {crop} x {crop} touches one of {', '.join(config.exclude)}; exclude less"


def _open_masks(config: SourceConfig, dataset: str | None, images: AtMip, mip: int) -> AtMip | None:
    """The masks named, or the data set 'masks' that lies beside the images in the same archive."""
    path, name = config.masks, None
    if path is None:
        contents = contents_of(Place.parse(config.path))
        group = dataset.rpartition("/")[0] if dataset else ""
        name = f"{group}/{_MASKS}" if group else _MASKS
        if contents is None or name not in contents.datasets:
            return None
        path = config.path
    stored = AtMip(open_volume(path, dataset=name))  # as they are, if they were made at the mip of the images
    masks = stored if stored.box == images.box else _at_mip(path, name, mip)[0]
    if masks.volume.dtype.kind not in "ui":
        raise UserError(f"masks {path} hold {masks.volume.dtype}; they must be whole numbers 0, 1 and 2")
    if masks.box != images.box:
        raise UserError(
            f"masks {path} cover {masks.box} at mip {mip}, the images {images.box}; both must be of the same voxels"
        )
    return masks
