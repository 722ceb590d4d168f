"""Where labelled images come from: the pairs that a source names, opened as arrays of known axes and checked against each other.

Whatever axes a file has, its image is read as ``(c, z, y, x)`` and its labels as ``(z, y, x)``, with z of length one where a file
has none. Each time point is an image of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.data.image_source import ImageSource, Part, check_image, length_of, selected
from lamella.io import open_volume
from lamella.io.open import contents_of
from lamella.io.pairs import Pair, look, read_names, select, unmatched
from lamella.io.picture import INDICES
from lamella.io.place import Place


class LabelledSource(ImageSource):
    """Images with labels. Layouts are told in ``lamella.io.layouts``."""

    path: str = Field(description="folder of images and labels, Cell Tracking Challenge folder, OME-Zarr, or one image")
    labels: str | None = Field(
        None, description="folder or file of the labels, an OME-Zarr label, GT or ST, where the layout leaves a choice"
    )
    ignore: tuple[int, ...] | None = Field(
        None, description="labels of regions nobody annotated; data.ignore if not given"
    )
    components: bool = Field(
        False, description="the labels are masks: give each connected region of one value a label of its own"
    )
    mip: int = Field(0, ge=0, description="mip of images and labels")


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
    check_image(image, pair.image, source, ndim, slices)
    _check_labels(labels, pair)
    _check_sizes(image, labels, pair)
    box = selected(source, image, pair.image)
    planes = tuple(range(box.shape[0])) if pair.z is None else (pair.z - box.start[0],)
    if ndim == 3 and pair.z is not None:
        raise UserError(f"{pair.labels} shows one section of {pair.image}; train on single sections with data.ndim=2")
    planes = tuple(z for z in planes if 0 <= z < box.shape[0])
    times = range(length_of(image, "t")) if "t" in image.meta.axes else (None,)
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


def _check_labels(labels: Volume, pair: Pair) -> None:
    path = pair.labels
    if "c" in labels.meta.axes:
        raise UserError(
            f"labels {path} are a picture of {length_of(labels, 'c')} channels (RGB), not one whole number per voxel; save them "
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
    sizes = {a: (length_of(image, a), length_of(labels, a)) for a in axes}
    if any(a != b for a, b in sizes.values()):
        shown = [a for a in axes if a in "yx" or max(sizes[a]) > 1]
        ours, theirs = (" x ".join(str(sizes[a][k]) for a in shown) for k in (0, 1))
        raise UserError(
            f"labels {pair.labels} are {theirs} ({' '.join(shown)}), the image {pair.image} is {ours}; both must have one size"
        )
    if pair.z is not None and not 0 <= pair.z < length_of(image, "z"):
        raise UserError(
            f"{pair.labels} belongs to section {pair.z}, {pair.image} has {length_of(image, 'z')}; rename it"
        )
