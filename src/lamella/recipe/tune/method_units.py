"""The images on which instances are tuned: maps predicted once and kept, with the truth beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.files import replacing
from lamella.core.progress import progress
from lamella.core.volume import Meta
from lamella.data.labelled import LabelledData
from lamella.data.labelled_image import LabelledImage
from lamella.data.labelled_load import load
from lamella.data.labelled_source import LabelledSource
from lamella.infer.maps import Target, predict_maps
from lamella.io import create_volume
from lamella.ops.matching import IGNORED
from lamella.recipe.tune.method_scores import Unit
from lamella.recipe.tune.settings import MethodSettings
from lamella.tasks.segment.predict_settings import PredictSettings
from lamella.tasks.segment.predictor import Segmenter


def labelled_images(path: str, settings: MethodSettings, trained: LabelledData) -> list[LabelledImage]:
    """The images at ``path`` with their labels, opened as for training; raises UserError if there is nothing to score."""
    source = LabelledSource(
        path=path,
        labels=settings.labels,
        names=settings.names,
        ignore=settings.ignored,
        channels=trained.sources[0].channels,
    )
    images = load(trained.model_copy(update={"sources": (source,), "cache_gb": 0.0, "trim": None})).images
    twice = [name for name in {i.name for i in images} if sum(i.name == name for i in images) > 1]
    if twice:
        raise UserError(f"several images of {path} are called {twice[0]}; rename them")
    return list(images)


def make_units(images: Sequence[LabelledImage], segmenter: Segmenter, folder: Path) -> list[Unit]:
    """Predict the maps of all images into ``folder``, those that are not there yet, and cut them into units."""
    units: list[Unit] = []
    with progress("maps for instances", len(images), "images") as meter:
        for image in images:
            segmenter.check(image.opened.image)
            found = _units_of(image, segmenter, folder)
            if not all(unit.maps.exists() and unit.truth.exists() for unit in found):
                _write(image, segmenter, found, folder)
            units += found
            meter.advance()
    return units


def _units_of(image: LabelledImage, segmenter: Segmenter, folder: Path) -> list[Unit]:
    flat = segmenter.net.ndim == 2
    spacing = segmenter.maker(image.opened.image, flat=flat).voxel_size
    several = len(image.planes) > 1
    names = [f"{image.name}_z{z}" if several else image.name for z in image.planes] if flat else [image.name]
    return [Unit(n, folder / f"{n}.maps.npy", folder / f"{n}.truth.npy", segmenter.map_names, spacing) for n in names]


def _write(image: LabelledImage, segmenter: Segmenter, units: Sequence[Unit], folder: Path) -> None:
    """Predict the whole image, block by block, and save it unit by unit."""
    part, flat = image.opened.image, segmenter.net.ndim == 2
    shape = (len(segmenter.map_names), *part.box.shape)
    size = (
        (1 if flat else shape[1], *shape[2:]) if segmenter.takes_whole else PredictSettings().size(segmenter.net.ndim)
    )
    with TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "maps.zarr"
        chunk = (1, *(min(a, b) for a, b in zip(size, shape[1:], strict=True)))
        (volume,) = create_volume(path, box=Box.of(shape), dtype="float32", meta=Meta.plain("czyx"), chunk=chunk)
        predict_maps(part, segmenter.op(part), Target(volume), size=size)
        for unit, z in zip(units, image.planes if flat else (None,), strict=True):
            first, last = (0, shape[1]) if z is None else (z, z + 1)
            box = Box((first, 0, 0), (last, *shape[2:]))
            labels, valid = image.labels(box)
            truth = np.where(valid > 0, labels, IGNORED)
            maps = volume.read(Box((0, *box.start), (shape[0], *box.stop)))
            _save(unit.truth, truth[0] if flat else truth)
            _save(unit.maps, maps[:, 0] if flat else maps)


def _save(path: Path, array: NDArray[Any]) -> None:
    with replacing(path) as beside, beside.open("wb") as file:
        np.save(file, array)
