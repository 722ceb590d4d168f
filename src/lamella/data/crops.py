"""Where crops lie in an image, and what they hold.

A crop shows ``size`` voxels, of which those at least ``context`` from its edges count. It lies so that these stay inside the image:

```
image         |......................|
first crop  rr[ccwwwwwwwwcc]                 c context that shows the image, w counts, r mirrored
last crop               [ccwwwwwwwwcc]rr
```

An image that is smaller than what counts lies inside it, anywhere when crops are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.data.image import ScaledImage
from lamella.data.labelled_image import LabelledImage
from lamella.ops.intensity import IntensityConfig, Percentile

Start = tuple[int, ...]  # first voxel of a crop: z, y, x; may be negative


@runtime_checkable
class Croppable(Protocol):
    """What crops are cut from: ``shape`` (z, y, x), of which the sections ``planes`` are drawn from."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def planes(self) -> tuple[int, ...]: ...

    def image(self, box: Box, slices: int = 1) -> NDArray[np.float32]:
        """``box`` as (c, z, y, x), with neighbouring sections as channels where ``slices`` says; mirrored outside."""
        ...

    def inside(self, box: Box) -> NDArray[np.float32]:
        """1 where ``box`` lies inside, 0 elsewhere."""
        ...


Sides = int | tuple[int, ...]


def per_axis(size: Sides, ndim: int) -> tuple[int, ...]:
    """One size for each spatial axis."""
    return (size,) * ndim if isinstance(size, int) else size


def check_sides(ndim: int, crop: Sides, context: Sides, overhang: Sides) -> None:
    """Raise ValueError unless each is one size or ``ndim`` of them, and the context leaves something of the crop."""
    for name, value, least in (("crop", crop, 1), ("context", context, 0), ("overhang", overhang, 0)):
        sides = per_axis(value, ndim)
        if len(sides) != ndim or min(sides) < least:
            raise ValueError(f"{name} {value} must be one size of at least {least}, or {ndim} of them")
    if any(2 * c >= n for c, n in zip(per_axis(context, ndim), per_axis(crop, ndim), strict=True)):
        raise ValueError(f"context {context} on both sides leaves nothing of a crop of {crop}")


class CropsConfig(Config):
    """What crops are cut from images, with or without labels, and how the images are read."""

    ndim: Literal[2, 3] = Field(2, description="2: sections, 3: volumes")
    slices: int = Field(1, ge=1, description="odd number of neighbouring sections that a 2D net sees as channels")
    crop: int | tuple[int, ...] = Field(
        128, description="size of a crop in pixels of the image, one or one for each axis"
    )
    context: int | tuple[int, ...] = Field(
        0,
        description="pixels at the edges of a crop that are shown but do not count, so that all that counts has surroundings",
    )
    overhang: int | tuple[int, ...] = Field(
        0,
        description="pixels by which drawn crops may reach beyond the image, for augmentations that cut the edges off again",
    )
    draw: Literal["images", "voxels"] = Field(
        "images", description="images: each image (section) as often as any other; voxels: in proportion to its size"
    )
    normaliser: IntensityConfig = Field(Percentile(), description="the same as for prediction")
    length: int | None = Field(
        None,
        ge=1,
        description="number of different samples, which then repeat; none: no end, and for validation every image once",
    )
    cache_gb: float = Field(
        4.0, ge=0, description="memory for images and labels; what does not fit is read crop by crop"
    )
    skip_bad: bool = Field(False, description="go on without files that cannot be used, and report them")

    @model_validator(mode="after")
    def _check_crops(self) -> CropsConfig:
        if self.slices % 2 == 0:
            raise ValueError(f"slices {self.slices} must be odd, with the section to learn in the middle")
        if self.slices > 1 and self.ndim == 3:
            raise ValueError("slices are for 2D nets; with ndim 3 the sections are an axis of the image")
        check_sides(self.ndim, self.crop, self.context, self.overhang)
        return self

    def per_axis(self, size: int | tuple[int, ...]) -> tuple[int, ...]:
        """One size for each spatial axis."""
        return per_axis(size, self.ndim)

    @property
    def crops(self) -> Crops:
        """How crops lie in images."""
        crop, context, overhang = (self.per_axis(size) for size in (self.crop, self.context, self.overhang))
        return Crops(self.ndim, crop, context, self.slices, overhang)

    def chance(self, image: ScaledImage) -> float:
        """How often crops are drawn from an image, relative to others."""
        sections = len(image.planes) if self.ndim == 2 else 1
        size = sections if self.draw == "images" else len(image.planes) * image.shape[1] * image.shape[2]
        return image.weight * size


@dataclass(frozen=True)
class Window:
    """A crop: ``image`` (c, *space), ``labels`` and ``valid`` (*space)."""

    image: NDArray[np.float32]
    labels: NDArray[np.int64]
    valid: NDArray[np.float32]


@dataclass(frozen=True)
class Crops:
    """Crops of ``size`` voxels in ``ndim`` axes, with ``slices`` sections as channels in 2D."""

    ndim: int
    size: tuple[int, ...]
    context: tuple[int, ...]
    slices: int = 1
    overhang: tuple[int, ...] | None = None  # voxels that drawn crops may reach beyond the image

    def draw(self, rng: np.random.Generator, image: Croppable, objects: float = 0.0) -> Start:
        """A place for a crop: with chance ``objects`` around an object, whose middle then lies in the crop's middle half."""
        plane = image.planes[int(rng.integers(len(image.planes)))]
        around = rng.random() < objects
        ranges = self._ranges(image)
        places = image.places if isinstance(image, LabelledImage) else ()
        if around and len(places):
            z, *place = (int(v) for v in places[int(rng.integers(len(places)))])
            plane = image.planes[z]
            place = place if self.ndim == 2 else [z, *place]
            jitter = [(n - 2 * c) // 4 for n, c in zip(self.size, self.context, strict=True)]
            wanted = [
                p - n // 2 + int(rng.integers(-j, j + 1)) for p, n, j in zip(place, self.size, jitter, strict=True)
            ]
            start = tuple(min(max(w, low), high) for w, (low, high) in zip(wanted, ranges, strict=True))
        else:
            start = tuple(int(rng.integers(low, high + 1)) for low, high in ranges)
        return (plane, *start) if self.ndim == 2 else start

    def window(self, image: LabelledImage, start: Start) -> Window:
        """The crop that begins at ``start``."""
        window = self._read(image, self._box(start))
        self._leave_context(window.valid)
        return window

    def shown(self, image: Croppable, start: Start) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The crop that begins at ``start`` without labels, (c, *space), and where it counts, (*space)."""
        box = self._box(start)
        shown, valid = image.image(box, self.slices), image.inside(box)
        if self.ndim == 2:
            shown, valid = shown[:, 0], valid[0]
        self._leave_context(valid)
        return shown, valid

    def _box(self, start: Start) -> Box:
        size = self.size if self.ndim == 3 else (1, *self.size)
        return Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))

    def _leave_context(self, valid: NDArray[np.float32]) -> None:
        for axis, context in enumerate(self.context):
            if context:
                edge = np.moveaxis(valid, axis, 0)
                edge[:context] = edge[-context:] = 0

    def whole(self, image: LabelledImage, plane: int) -> Window:
        """All of an image, in 2D of its section ``plane``."""
        box = Box.of(image.shape)
        if self.ndim == 2:
            box = Box((plane, 0, 0), (plane + 1, *image.shape[1:]))
        return self._read(image, box)

    def cover(self, image: Croppable) -> list[Start]:
        """Places of crops whose counting parts cover the image, in order; in 2D section by section."""
        axes = [self._steps(n, axis) for axis, n in enumerate(image.shape[-self.ndim :])]
        planes = [image.planes] if self.ndim == 2 else []
        return list(product(*planes, *axes))

    def own(self, image: Croppable, start: Start, valid: NDArray[np.float32]) -> NDArray[np.float32]:
        """``valid`` of a crop of the cover, 0 where an earlier crop has counted already."""
        result = valid.copy()
        for axis, (first, size) in enumerate(zip(start[-self.ndim :], image.shape[-self.ndim :], strict=True)):
            step = self.size[axis] - 2 * self.context[axis]
            steps = self._steps(size, axis)
            number = steps.index(first)
            done = (steps[number - 1] + self.context[axis] + step if number else first) - first
            np.moveaxis(result, axis, 0)[: max(done, 0)] = 0
        return result

    def _read(self, image: LabelledImage, box: Box) -> Window:
        shown = image.image(box, self.slices)
        labels, valid = image.labels(box)
        if self.ndim == 2:
            return Window(shown[:, 0], labels[0], valid[0])
        return Window(shown, labels, valid)

    def _ranges(self, image: Croppable) -> list[tuple[int, int]]:
        """First and last start of a crop along each axis."""
        found = []
        beyond = self.overhang or (0,) * self.ndim
        for n, size, context, over in zip(image.shape[-self.ndim :], self.size, self.context, beyond, strict=True):
            ends = -context - over, n - size + context + over
            found.append((min(ends), max(ends)))
        return found

    def _steps(self, n: int, axis: int) -> list[int]:
        """Starts along one axis whose counting parts cover ``n`` voxels; the last is shifted inwards."""
        size, context = self.size[axis], self.context[axis]
        step, last = size - 2 * context, n - size + context
        if last <= -context:
            return [-((size - n) // 2)]
        starts = list(range(-context, last, step))
        return [*starts, last]
