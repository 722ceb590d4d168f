"""What is compared with what: predicted and true labels of equal names, checked before anything is counted.

A folder of files is one image each (a file of several sections is a stack), unless it is asked for, or known, as one volume; any
other path is one volume. Names must be equal but for their ending and for what programs append: ``x_masks.tif``, ``x_instances``;
``mask012.tif`` and ``man_seg012.tif`` of the Cell Tracking Challenge are one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.folders import RECORD
from lamella.io.layouts import IMAGE_FOLDERS, LABEL_FOLDERS, SUFFIXES, image_files, stem
from lamella.io.open import contents_of
from lamella.io.pairs import read_names
from lamella.io.picture import INDICES
from lamella.io.place import Place
from lamella.tasks.segment.evaluate_settings import InstanceSettings

_ENDINGS = (*SUFFIXES, "_instances")
_STORES = (
    "zarr.json",
    ".zgroup",
    ".zattrs",
    ".zarray",
    "attributes.json",
    "info",
    RECORD,
)  # a folder with one is a volume
_FEW = 3


@dataclass(frozen=True)
class Layer:
    """Labels or an image of one subject, (z) y x: a volume whose other axes have one voxel, or one section of it."""

    volume: Volume
    z: int | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(a for a in self.volume.meta.axes if a in "yx" or (a == "z" and self.z is None))

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along ``axes``."""
        sizes = dict(zip(self.volume.meta.axes, self.volume.box.shape, strict=True))
        return tuple(sizes[a] for a in self.axes)

    @property
    def voxel_size(self) -> tuple[float, ...]:
        sizes = dict(zip(self.volume.meta.axes, self.volume.meta.voxel_size, strict=True))
        return tuple(sizes[a] for a in self.axes)

    def read(self, box: Box) -> NDArray[Any]:
        """``box``, counted from the layer's first voxel; of several channels the mean."""
        full = self.volume.box
        start, stop = list(full.start), list(full.stop)
        for k, axis in enumerate(self.volume.meta.axes):
            if axis in self.axes:
                at = self.axes.index(axis)
                start[k], stop[k] = full.start[k] + box.start[at], full.start[k] + box.stop[at]
            elif axis == "z" and self.z is not None:
                start[k], stop[k] = full.start[k] + self.z, full.start[k] + self.z + 1
        array = self.volume.read(Box(tuple(start), tuple(stop)))
        others = tuple(k for k, axis in enumerate(self.volume.meta.axes) if axis not in self.axes)
        return array.reshape(box.shape) if array.size == box.size else array.mean(axis=others)


@dataclass(frozen=True)
class Subject:
    """One image: its name, what is true and what was predicted, and the picture if there is one."""

    name: str
    true: Layer
    predicted: Layer
    image: Layer | None = None

    @property
    def box(self) -> Box:
        return Box.of(self.true.shape)


def open_subjects(predicted: str, true: str, settings: InstanceSettings) -> list[Subject]:
    """The images to score, in the order of their names; raises UserError for what does not fit, naming how many and the first."""
    if all(_is_folder(path, settings.layout) for path in (predicted, true)):
        subjects = _from_folders(predicted, true, settings)
    else:
        subjects = [_subject(stem(true), true, predicted, settings.images)]
        if settings.names is not None:
            raise UserError(f"--names chooses among the files of folders, {true} is one volume; leave it out")
    for subject in subjects:
        _check(subject)
    if settings.slices:
        subjects = [section for subject in subjects for section in _sections(subject)]
    return subjects


def _is_folder(path: str, layout: str) -> bool:
    """Whether ``path`` is a folder of images of their own."""
    local = Place.parse(path).local
    if local is None or not local.is_dir() or layout == "volume":
        return False
    known = any((local / name).exists() for name in _STORES)
    return layout == "images" or not known


def _from_folders(predicted: str, true: str, settings: InstanceSettings) -> list[Subject]:
    folder = _inner(Path(true), LABEL_FOLDERS)
    truths = _by_name(folder)
    found = _by_name(_inner(Path(predicted), ("instances", *LABEL_FOLDERS)))
    pictures = _pictures(settings.images, folder)
    names = sorted(truths)
    if settings.names is not None:
        names = [stem(n) if n not in truths and stem(n) in truths else n for n in read_names(settings.names)]
        _refuse_missing([n for n in names if n not in truths], len(names), "true labels", folder)
    _refuse_missing([n for n in names if n not in found], len(names), "prediction", Path(predicted))
    return [_subject(n, str(truths[n]), str(found[n]), pictures.get(n)) for n in names]


def _inner(folder: Path, names: Sequence[str]) -> Path:
    """The folder of labels in a folder of a data set, or the folder itself."""
    if image_files(folder):
        return folder
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def _by_name(folder: Path) -> dict[str, Path]:
    files = image_files(folder)
    if not files:
        raise UserError(f"{folder} holds no label images (.tif, .png, .zarr); give the folder that does")
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(_name(file), file)
        if other is not file:
            raise UserError(f"{other} and {file} are labels of one image; remove one of them")
    return found


def _name(file: Path) -> str:
    """What the files of one image share."""
    name = stem(file)
    challenge = re.fullmatch(r"(?:man_seg_?|man_track|mask|t)(\d+)", name)
    if challenge:
        return f"t{challenge[1]}"
    ending = next((s for s in _ENDINGS if name.lower().endswith(s)), "")
    return name[: len(name) - len(ending)]


def _pictures(images: str | None, labels: Path) -> dict[str, str]:
    """Pictures by name: in the folder given, or in one beside the true labels."""
    beside = next((labels.parent / n for n in IMAGE_FOLDERS if (labels.parent / n).is_dir()), None)
    folder = beside if images is None else Path(images)
    if folder is None:
        return {}
    if not folder.is_dir():
        raise UserError(f"--images {folder} is no folder; give the folder of the images that were segmented")
    return {_name(file): str(file) for file in image_files(folder)}


def _refuse_missing(missing: Sequence[str], count: int, what: str, folder: Path) -> None:
    if missing:
        first = ", ".join(missing[:_FEW])
        raise UserError(
            f"{len(missing)} of {count} images have no {what} in {folder}, first: {first}; names must be equal but for their ending"
        )


def _subject(name: str, true: str, predicted: str, image: str | None) -> Subject:
    layers = (_flat(_labels(true, "true")), _flat(_labels(predicted, "predicted")))
    return Subject(name, *layers, None if image is None else _flat(open_volume(image)))


def _flat(volume: Volume) -> Layer:
    """A stack of one section is an image (y, x)."""
    axes = volume.meta.axes
    return Layer(volume, 0 if "z" in axes and volume.box.shape[axes.index("z")] == 1 else None)


def _labels(path: str, side: str) -> Volume:
    """The labels at ``path``, whole numbers; for a picture with a palette the numbers below its colours."""
    place = Place.parse(path)
    contents = contents_of(place)
    palette = contents is not None and INDICES in contents.datasets
    volume = open_volume(path, dataset=INDICES if palette else None)
    many = {a: n for a, n in zip(volume.meta.axes, volume.box.shape, strict=True) if a not in "zyx" and n > 1}
    if "c" in many:
        raise UserError(
            f"{side} labels {path} have {many['c']} channels (saved as RGB?), not one whole number per voxel; save them as a "
            "grey image of 8, 16 or 32 bits, each object with its own value"
        )
    if many or volume.meta.axes[-2:] != ("y", "x"):
        raise UserError(f"{side} labels {path} have axes {' '.join(volume.meta.axes)}; they need y x or z y x")
    if volume.dtype.kind not in "bui":
        raise UserError(
            f"{side} labels {path} hold {volume.dtype}, not whole numbers; give instance labels, not a map of probabilities"
        )
    if str(path).lower().endswith((".jpg", ".jpeg")):
        raise UserError(f"{side} labels {path} are a JPEG, which changes values; save them as PNG or TIFF")
    return volume


def _check(subject: Subject) -> None:
    """Refuse layers of different sizes."""
    layers = {"prediction": subject.predicted, "image": subject.image}
    for what, layer in layers.items():
        if layer is not None and layer.shape != subject.true.shape:
            raise UserError(
                f"{what} {layer.volume.path} is {_times(layer.shape)} ({' '.join(layer.axes)}), the truth "
                f"{subject.true.volume.path} {_times(subject.true.shape)}; both must have one size"
            )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _sections(subject: Subject) -> list[Subject]:
    """The sections of a stack, each a subject of its own; an image is one."""
    if subject.box.ndim == 2:
        return [subject]
    depth = subject.true.shape[0]
    return [_section(subject, z, len(str(depth - 1))) for z in range(depth)]


def _section(subject: Subject, z: int, digits: int) -> Subject:
    layers = {name: replace(layer, z=z) for name, layer in vars(subject).items() if isinstance(layer, Layer)}
    return replace(subject, name=f"{subject.name} z{z:0{digits}d}", **layers)
