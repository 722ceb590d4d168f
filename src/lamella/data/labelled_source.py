"""Where labelled images come from: the pairs that a source names, opened as arrays of known axes and checked against each other.

Whatever axes a file has, its image is read here as ``(c, z, y, x)`` and its labels as ``(z, y, x)``, with z of length one where a
file has none. Each time point is an image of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lamella.core.box import Box, parse_box
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.open import contents_of
from lamella.io.pairs import Layout, Pair, look, read_names, select, unmatched
from lamella.io.picture import INDICES
from lamella.io.place import Place


class LabelledSource(Config):
    """Images with labels. Layouts are told in ``lamella.io.layouts``."""

    path: str = Field(description="folder of images and labels, Cell Tracking Challenge folder, OME-Zarr, or one image")
    labels: str | None = Field(
        None, description="folder or file of the labels, an OME-Zarr label, GT or ST, where the layout leaves a choice"
    )
    layout: Layout = Field("auto", description="auto, folders, suffixes, ctc, ome-zarr or files")
    names: str | tuple[str, ...] | None = Field(
        None, description="only these images: a list, a text file of names, or FILE.json:KEY"
    )
    channels: tuple[int, ...] | None = Field(None, min_length=1, description="channels to take, counted from 0; or all")
    ignore: tuple[int, ...] | None = Field(
        None, description="labels of regions nobody annotated; data.ignore if not given"
    )
    components: bool = Field(
        False, description="the labels are masks: give each connected region of one value a label of its own"
    )
    dataset: str | None = Field(None, description="data set of the image in a file that holds several")
    mip: int = Field(0, ge=0, description="mip of images and labels")
    bbox: str | None = Field(None, description="part to take: START:STOP for y,x or z,y,x")
    z: str | None = Field(None, description="sections to take, START:STOP")
    weight: float = Field(1.0, gt=0, description="how often its images are drawn, relative to those of other sources")


@dataclass(frozen=True)
class Part:
    """One time point of a volume, of which ``box`` (z, y, x, from 0) is taken; ``channels`` of None are all."""

    volume: Volume
    box: Box
    time: int | None = None
    channels: tuple[int, ...] | None = None

    @property
    def num_channels(self) -> int:
        if "c" not in self.volume.meta.axes:
            return 1
        return len(self.channels) if self.channels else self.volume.box.shape[self.volume.meta.axes.index("c")]

    def read(self, box: Box) -> NDArray[Any]:
        """``box`` (z, y, x, from the part's first voxel) as (c, z, y, x)."""
        wanted = dict(zip("zyx", box.shift(self.box.start).slices(), strict=True))
        inner = self.volume_box({axis: (s.start, s.stop) for axis, s in wanted.items()})
        array = _arranged(self.volume.read(inner), self.volume.meta.axes)
        return array if self.channels is None else array[list(self.channels)]

    def volume_box(self, ranges: dict[str, tuple[int, int]]) -> Box:
        """The volume's own box of ``ranges`` per axis, of this time point and all channels."""
        if self.time is not None:
            ranges = {**ranges, "t": (self.time, self.time + 1)}
        whole = self.volume.box
        starts, stops = list(whole.start), list(whole.stop)
        for k, axis in enumerate(self.volume.meta.axes):
            if axis in ranges:
                low, high = ranges[axis]
                starts[k], stops[k] = whole.start[k] + low, whole.start[k] + high
        return Box(tuple(starts), tuple(stops))

    @property
    def is_whole(self) -> bool:
        """Whether ``box`` is all of the image."""
        axes = self.volume.meta.axes
        return all(
            n == (self.volume.box.shape[axes.index(a)] if a in axes else 1)
            for a, n in zip("zyx", self.box.shape, strict=True)
        )

    @property
    def whole(self) -> Box:
        """All of this time point, in the volume's own coordinates: what intensities are measured on."""
        return self.volume_box({})


@dataclass(frozen=True)
class Opened:
    """An image and its labels, of one size.

    ``planes`` are the annotated sections, counted from the image's first; ``ignore`` the labels that do not count. With
    ``components`` the labels are a mask, whose regions are objects, of each section by itself if ``flat``.
    """

    name: str
    image: Part
    labels: Part
    planes: tuple[int, ...]
    ignore: tuple[int, ...] = ()
    components: bool = False
    flat: bool = True
    weight: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.image.box.shape
        return z, y, x


def pairs_of(source: LabelledSource, *, skip_bad: bool) -> tuple[list[Pair], list[str]]:
    """The pairs that ``source`` names, and what is wrong with the others; raises UserError unless ``skip_bad``."""
    found = look(source.path, source.labels, source.layout)
    pairs, problems = list(found.pairs), list(found.problems)
    if source.names is not None:
        names = read_names(source.names)
        pairs, problems = select(pairs, names, source.path), []
    problems += [f"{p.image} has no labels" for p in pairs if p.labels is None]
    if not any(p.labels for p in pairs):
        raise UserError(
            f"no labels were found for the {len(pairs)} images of {source.path}; put them into labels/ or masks/ beside "
            "images/, or beside each image as NAME_masks.tif, or name them with labels"
        )
    if problems and not skip_bad:
        raise UserError(unmatched(source.path, problems))
    return [p for p in pairs if p.labels], problems


def open_pair(pair: Pair, source: LabelledSource, ndim: int, slices: int, ignore: tuple[int, ...]) -> list[Opened]:
    """The images of one pair, one per time point, checked as far as headers tell."""
    assert pair.labels is not None
    image = open_volume(pair.image, dataset=source.dataset, mip=source.mip)
    labels = _open_labels(pair.labels, source.mip)
    _check_image(image, pair, source, ndim, slices)
    _check_labels(labels, pair)
    _check_sizes(image, labels, pair)
    box = _selected(source, image, pair)
    planes = tuple(range(box.shape[0])) if pair.z is None else (pair.z - box.start[0],)
    if ndim == 3 and pair.z is not None:
        raise UserError(f"{pair.labels} shows one section of {pair.image}; train on single sections with data.ndim=2")
    planes = tuple(z for z in planes if 0 <= z < box.shape[0])
    times = range(_length(image, "t")) if "t" in image.meta.axes else (None,)
    return [
        Opened(
            pair.name if t is None else f"{pair.name}_t{t}",
            Part(image, box, t, source.channels),
            Part(labels, _label_box(box, pair.z), t if "t" in labels.meta.axes else None),
            planes,
            ignore if source.ignore is None else source.ignore,
            source.components,
            ndim == 2,
            source.weight,
        )
        for t in times
        if planes
    ]


def _label_box(box: Box, z: int | None) -> Box:
    return box if z is None else Box((0, *box.start[1:]), (1, *box.stop[1:]))


def _open_labels(path: str, mip: int) -> Volume:
    contents = contents_of(Place.parse(path))
    has_palette = contents is not None and INDICES in contents.datasets
    return open_volume(path, dataset=INDICES if has_palette else None, mip=mip)


def _length(volume: Volume, axis: str) -> int:
    axes = volume.meta.axes
    return volume.box.shape[axes.index(axis)] if axis in axes else 1


def _check_image(image: Volume, pair: Pair, source: LabelledSource, ndim: int, slices: int) -> None:
    axes = " ".join(image.meta.axes)
    if image.meta.axes[-2:] != ("y", "x") or "n" in image.meta.axes:
        raise UserError(f"{pair.image} has axes {axes}; images need y x, with c, z and t before them")
    if image.dtype.kind not in "buif":
        raise UserError(f"{pair.image} holds {image.dtype}; images must be integers or floats")
    if "z" not in image.meta.axes and (ndim == 3 or slices > 1):
        what = "data.ndim=3" if ndim == 3 else f"data.slices={slices}"
        raise UserError(
            f"{pair.image} has axes {axes} and no z, but {what} needs volumes; set data.ndim=2 data.slices=1"
        )
    num = _length(image, "c")
    if source.channels and not all(0 <= c < num for c in source.channels):
        raise UserError(f"{pair.image} has {num} channels, {list(source.channels)} were asked for; count from 0")


def _check_labels(labels: Volume, pair: Pair) -> None:
    path = pair.labels
    if "c" in labels.meta.axes:
        raise UserError(
            f"labels {path} are a picture of {_length(labels, 'c')} channels (RGB), not one whole number per voxel; save them "
            "as a grey image of 8 or 16 bits, each object with its own value"
        )
    if labels.dtype.kind == "f":
        raise UserError(
            f"labels {path} hold {labels.dtype}, not whole numbers; save them as integers, each object with its own value"
        )
    if labels.dtype.kind not in "bui":
        raise UserError(f"labels {path} hold {labels.dtype}; they must be whole numbers")
    if str(path).lower().endswith((".jpg", ".jpeg")):
        raise UserError(f"labels {path} are a JPEG, which changes values; save them as PNG or TIFF")


def _check_sizes(image: Volume, labels: Volume, pair: Pair) -> None:
    axes = [a for a in "tzyx" if not (a == "z" and pair.z is not None)]
    sizes = {a: (_length(image, a), _length(labels, a)) for a in axes}
    if any(a != b for a, b in sizes.values()):
        shown = [a for a in axes if a in "yx" or max(sizes[a]) > 1]
        ours, theirs = (" x ".join(str(sizes[a][k]) for a in shown) for k in (0, 1))
        raise UserError(
            f"labels {pair.labels} are {theirs} ({' '.join(shown)}), the image {pair.image} is {ours}; both must have one size"
        )
    if pair.z is not None and not 0 <= pair.z < _length(image, "z"):
        raise UserError(f"{pair.labels} belongs to section {pair.z}, {pair.image} has {_length(image, 'z')}; rename it")


def _selected(source: LabelledSource, image: Volume, pair: Pair) -> Box:
    """The box (z, y, x, from 0) that ``bbox`` and ``z`` leave."""
    whole = Box.of((_length(image, "z"), _length(image, "y"), _length(image, "x")))
    try:
        box = parse_box(source.bbox, whole) if source.bbox else whole
        if source.z is None:
            return box
        z = parse_box(source.z, Box((0,), (whole.stop[0],)))
    except UserError as error:
        raise UserError(f"{pair.image}: {error}") from None
    box = box.intersect(Box((*z.start, *whole.start[1:]), (*z.stop, *whole.stop[1:])))
    if box.is_empty:
        raise UserError(f"{pair.image}: z {source.z} and bbox {source.bbox} have no section in common")
    return box


def _arranged(array: NDArray[Any], axes: Iterable[str]) -> NDArray[Any]:
    """An array of any of the axes t c z y x, with t of length one, as (c, z, y, x)."""
    axes = list(axes)
    if "t" in axes:
        array = array.take(0, axes.index("t"))
        axes.remove("t")
    for place, axis in enumerate("cz"):
        if axis not in axes:
            array, axes = np.expand_dims(array, place), [*axes[:place], axis, *axes[place:]]
    return array.transpose([axes.index(a) for a in "czyx"])
