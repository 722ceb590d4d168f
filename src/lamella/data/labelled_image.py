"""One image with labels, read window by window: from memory where they are kept, otherwise from their files.

A window is a box (z, y, x) that may reach beyond the image, where image and labels are mirrored and nothing counts (see
``lamella.data.image``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lamella.core.box import Box
from lamella.data.image import Index, Kept, ScaledImage, inside, mirrored, spanned, take
from lamella.data.labelled_source import Opened
from lamella.data.labelled_survey import without
from lamella.ops.intensity import Scaling


class LabelledImage(ScaledImage):
    """Windows of the scaled image and of its labels. Picklable."""

    def __init__(
        self,
        opened: Opened,
        scaling: Scaling,
        places: NDArray[np.int32],
        image: Kept | None = None,
        labels: Kept | None = None,
    ) -> None:
        self.opened, self.places, self.kept_labels = opened, places, labels
        super().__init__(opened.name, opened.image, scaling, image, planes=opened.planes, weight=opened.weight)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_labels"}

    def _find(self) -> None:
        super()._find()
        self._labels = None if self.kept_labels is None else self.kept_labels.array

    def labels(self, box: Box) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Labels of ``box`` (z, y, x), 0 where they are ignored, and what counts: 0 there and outside the image, else 1."""
        inner = Box((box.start[0] - self.planes[0], *box.start[1:]), (box.stop[0] - self.planes[0], *box.stop[1:]))
        shape = (len(self.planes), *self.shape[1:])
        raw = self._gather_labels(mirrored(inner, shape))
        valid = inside(inner, Box.of(shape))
        for value in self.opened.ignore:
            valid[raw == value] = 0
        return without(raw, self.opened.ignore).astype(np.int64), valid

    def _gather_image(self, indices: list[Index]) -> NDArray[Any]:
        if self._image is not None:
            return take(self._image, indices)
        box, local = spanned(indices, self.shape)
        return take(self.opened.image.read(box), local)

    def _gather_labels(self, indices: list[Index]) -> NDArray[Any]:
        if self._labels is not None:
            return take(self._labels, indices)
        box, local = spanned(indices, (len(self.planes), *self.shape[1:]))
        return take(read_labels(self.opened, box), local)


def read_labels(opened: Opened, box: Box) -> NDArray[Any]:
    """Labels of ``box`` (z, y, x), z counted from the first annotated section.

    Regions of a mask are numbered within the box: two parts that meet outside of it become two objects, which touch nowhere.
    """
    raw = opened.labels.read(box)[0]
    if not opened.components:
        return raw
    around = ndimage.generate_binary_structure(3, 1)  # faces connect: thin membranes part cells that touch at a corner
    around[[0, 2]] &= not opened.flat
    regions, _ = ndimage.label(without(raw, opened.ignore) > 0, around, output=np.int32)
    regions[regions > 0] += max(opened.ignore, default=0)  # no region has the number of an ignored label
    for value in opened.ignore:
        regions[raw == value] = value
    return np.asarray(regions)
