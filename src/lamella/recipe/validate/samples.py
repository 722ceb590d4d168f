"""What is validated on: labelled images, or for 2D maps their sections, each a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.data.image_source import Part
from lamella.data.labelled import LabelledData
from lamella.data.labelled_image import LabelledImage
from lamella.data.labelled_load import load
from lamella.data.labelled_source import LabelledSource
from lamella.io.layouts import image_files
from lamella.io.pairs import Layout
from lamella.ops.matching import IGNORED
from lamella.recipe.validate.settings import ValidateSettings


@dataclass(frozen=True)
class Sample:
    """A labelled image, or if ``plane`` is given that section of it."""

    name: str
    image: LabelledImage
    plane: int | None

    @property
    def part(self) -> Part:
        return self.image.opened.image

    @property
    def axes(self) -> str:
        return "yx" if self.plane is not None else "zyx"

    @property
    def voxel_size(self) -> tuple[float, ...]:
        meta = self.part.volume.meta
        sizes = dict(zip(meta.axes, meta.voxel_size, strict=True))
        return tuple(sizes.get(a, 1.0) for a in self.axes)

    def meta(self, *, channels: Sequence[str] = (), many: bool = False, **facts: Any) -> Meta:
        """Metadata of what is stored of the sample; ``many``: with an axis c before those of space."""
        own = self.part.volume.meta
        units = dict(zip(own.axes, own.units, strict=True))
        first = (("c",), (1.0,), ("",)) if many else ((), (), ())
        return Meta(
            axes=(*first[0], *self.axes),
            voxel_size=(*first[1], *self.voxel_size),
            units=(*first[2], *(units.get(a, "") for a in self.axes)),
            channel_names=tuple(channels),
            name=self.name,
            provenance=facts,
        )

    def cut(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Of an array (n, z, y, x) of the whole image what is the sample's, (n, *space)."""
        return maps if self.plane is None else maps[:, self.plane]

    def raw(self) -> NDArray[Any]:
        """The image, (c, *space)."""
        return self.cut(self.part.read(Box.of(self.part.box.shape)))

    def truth(self) -> NDArray[np.int64]:
        """True labels (*space), 0 background, ``IGNORED`` where nothing counts."""
        shape = self.part.box.shape
        first, last = (0, shape[0]) if self.plane is None else (self.plane, self.plane + 1)
        labels, valid = self.image.labels(Box((first, 0, 0), (last, *shape[1:])))
        found = np.where(valid > 0, labels, IGNORED)
        return found if self.plane is None else found[0]


def open_images(source: str, ndim: Literal[2, 3], slices: int, settings: ValidateSettings) -> list[LabelledImage]:
    """The labelled images at ``source``; raises UserError for images without labels and for what does not fit together."""
    found = source_of(source, settings)
    images = load(LabelledData(sources=(found,), ndim=ndim, slices=slices, cache_gb=0.0)).images
    names = [image.name for image in images]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"several images of {source} are called {twice}; rename them")
    return list(images)


def source_of(path: str, settings: ValidateSettings) -> LabelledSource:
    """The images at ``path`` as a recipe would name them."""
    return LabelledSource.load({"path": path, "layout": _layout(path, settings.labels), **settings.source}, path)


def _layout(source: str, labels: str | None) -> Layout:
    """A folder of volumes, such as embeddings, beside a folder of labels is no volume of its own."""
    both = labels is not None and Path(labels).is_dir() and Path(source).is_dir()
    return "folders" if both and image_files(Path(source)) and image_files(Path(labels or "")) else "auto"


def samples_of(image: LabelledImage, ndim: int) -> list[Sample]:
    """The samples of one image."""
    if ndim == 3:
        return [Sample(image.name, image, None)]
    several = len(image.planes) > 1
    return [Sample(f"{image.name}_z{z}" if several else image.name, image, z) for z in image.planes]
