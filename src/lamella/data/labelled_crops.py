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

import numpy as np
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.data.labelled_image import LabelledImage

Start = tuple[int, ...]  # first voxel of a crop: z, y, x; may be negative


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

    def draw(self, rng: np.random.Generator, image: LabelledImage, objects: float) -> Start:
        """A place for a crop: with chance ``objects`` around an object, whose middle then lies in the crop's middle half."""
        plane = image.planes[int(rng.integers(len(image.planes)))]
        around = rng.random() < objects
        ranges = self._ranges(image)
        if around and len(image.places):
            z, *place = (int(v) for v in image.places[int(rng.integers(len(image.places)))])
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
        size = self.size if self.ndim == 3 else (1, *self.size)
        box = Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))
        window = self._read(image, box)
        for axis, context in enumerate(self.context):
            if context:
                edge = np.moveaxis(window.valid, axis, 0)
                edge[:context] = edge[-context:] = 0
        return window

    def whole(self, image: LabelledImage, plane: int) -> Window:
        """All of an image, in 2D of its section ``plane``."""
        box = Box.of(image.shape)
        if self.ndim == 2:
            box = Box((plane, 0, 0), (plane + 1, *image.shape[1:]))
        return self._read(image, box)

    def cover(self, image: LabelledImage) -> list[Start]:
        """Places of crops whose counting parts cover the image, in order; in 2D section by section."""
        axes = [self._steps(n, axis) for axis, n in enumerate(image.shape[-self.ndim :])]
        planes = [image.planes] if self.ndim == 2 else []
        return list(product(*planes, *axes))

    def own(self, image: LabelledImage, start: Start, valid: NDArray[np.float32]) -> NDArray[np.float32]:
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

    def _ranges(self, image: LabelledImage) -> list[tuple[int, int]]:
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
