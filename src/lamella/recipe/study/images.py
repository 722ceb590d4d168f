"""The images of a study: opened, kept apart, and read once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.data.held_out import refuse_held_out
from lamella.data.image_source import ImageSource, Part
from lamella.data.images import ImagesData
from lamella.data.images import load as load_images
from lamella.data.labelled import LabelledData
from lamella.data.labelled_image import LabelledImage
from lamella.data.labelled_load import load
from lamella.data.labelled_source import LabelledSource
from lamella.data.points_draw import draw_points
from lamella.data.points_settings import PointSettings
from lamella.data.points_table import PointTable
from lamella.ops.classes import Boundary, Values
from lamella.ops.intensity import IntensityConfig
from lamella.recipe.study.config import StudyConfig

_APART = (
    ("train", "validation"),
    ("train", "test"),
    ("validation", "test"),
    ("pool", "validation"),
    ("pool", "test"),
)


@dataclass(frozen=True)
class Sets:
    """The images to draw points from, to choose on, and to score."""

    train: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]

    @classmethod
    def open(cls, config: StudyConfig, normaliser: IntensityConfig) -> Sets:
        """Open all images, with their intensities measured.

        Raises UserError where two of the sets, or the pool and what is held out, share voxels, for sources to learn from that are
        marked as held out, and for what ``labelled`` data refuse.
        """
        sources = (config.train, config.validation, config.test)
        train, validation, test = (_open(source, config, normaliser) for source in sources)
        refuse_held_out([image.opened for image in train], config.train.path, ())
        parts = {"train": _parts(train), "validation": _parts(validation), "test": _parts(test)}
        if config.pool is not None:
            pool = ImagesData(sources=config.pool, ndim=config.ndim, normaliser=normaliser, cache_gb=0.0)
            parts["pool"] = [image.part for image in load_images(pool)[0]]
        for one, other in _APART:
            _refuse_shared(parts.get(one, []), parts[other], one, other)
        return cls(train, validation, test)


def whole(image: LabelledImage) -> NDArray[np.float32]:
    """All of an image, scaled, (c, z, y, x)."""
    return image.image(Box.of(image.part.box.shape))


def without_labels(source: LabelledSource) -> dict[str, Any]:
    """The images of a labelled source, as a source of images alone."""
    return ImageSource(**{name: getattr(source, name) for name in ImageSource.model_fields}).to_dict()


def points_of(images: Sequence[LabelledImage], config: StudyConfig, seed: int) -> PointTable:
    """The points of one seed, as many of each class as of another; the first k are the study's k points."""
    return draw_points([image.opened for image in images], point_settings(config, seed))


def point_settings(config: StudyConfig, seed: int) -> PointSettings:
    """What ``lamella prep points`` would be asked for."""
    classes = config.classes
    return PointSettings(
        classes=classes.kind,
        values=classes.values if isinstance(classes, Values) else None,
        thickness=classes.thickness if isinstance(classes, Boundary) else 2,
        total=config.points[-1],
        ndim=config.ndim,
        seed=seed,
    )


def _open(source: LabelledSource, config: StudyConfig, normaliser: IntensityConfig) -> tuple[LabelledImage, ...]:
    data = LabelledData(sources=(source,), ndim=config.ndim, normaliser=normaliser)
    found = load(data).images
    names = [image.name for image in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"several images of {source.path} are called {twice}; rename them")
    return tuple(found)


def _parts(images: Iterable[LabelledImage]) -> list[Part]:
    """What is taken of each image: the annotated sections."""
    found = []
    for image in images:
        box, planes = image.part.box, image.planes
        first, last = min(planes), max(planes) + 1
        inner = Box((box.start[0] + first, *box.start[1:]), (box.start[0] + last, *box.stop[1:]))
        found.append(replace(image.part, box=inner))
    return found


def _refuse_shared(ours: Sequence[Part], theirs: Sequence[Part], one: str, other: str) -> None:
    by_path: dict[tuple[str, int | None], list[Part]] = {}
    for part in theirs:
        by_path.setdefault(_place(part), []).append(part)
    for part in ours:
        for held in by_path.get(_place(part), []):
            if not part.box.intersect(held.box).is_empty:
                raise UserError(
                    f"{part.volume.path} is in {one} and in {other}, with voxels in common; what is scored must not be learnt from: "
                    "choose other images with names, or other sections with z"
                )


def _place(part: Part) -> tuple[str, int | None]:
    path = part.volume.path
    return (path if "://" in path else str(Path(path).resolve())), part.time
