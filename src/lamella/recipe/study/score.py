"""Scores of class probabilities: objects are made of them at a threshold, and compared with the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from lamella.data.labelled_image import LabelledImage
from lamella.ops.classes import Values
from lamella.ops.matching import IGNORED, Overlaps
from lamella.ops.matching_partition import partition_figures
from lamella.ops.matching_scores import ObjectScores, compare
from lamella.recipe.study.config import StudyConfig, Way
from lamella.recipe.validate.samples import Sample, samples_of

Maps = NDArray[np.float32]


class Scorer:
    """The figure of a study on one of its sets of images."""

    def __init__(self, config: StudyConfig, images: Sequence[LabelledImage]) -> None:
        self.config = config
        ndim = 2 if config.sections else config.ndim
        self.images = [(image, [(s, truth_of(s)) for s in samples_of(image, ndim)]) for image in images]

    def figures(self, maps: Callable[[LabelledImage], Maps], ways: Sequence[Way]) -> list[float]:
        """The figure of each way of making objects; NaN where nothing can be compared."""
        found: list[list[Any]] = [[] for _ in ways]
        for image, samples in self.images:
            whole = maps(image)
            for sample, truth in samples:
                for k, way in enumerate(ways):
                    found[k].append(self._compared(truth, self.objects(whole, way, sample)))
        return [self._figure(each) for each in found]

    def _named(self, maps: Maps) -> dict[str, Maps]:
        """Maps under the names that methods know: of classes of one's own the last is that of objects."""
        names = self.config.classes.names
        if isinstance(self.config.classes, Values):
            return {"objects": maps[-1], "boundaries": 1 - maps[-1]}
        if "boundary" in names:
            boundary = maps[names.index("boundary")]
            return {"objects": maps[names.index("object")] + boundary, "boundaries": boundary}
        return {"objects": maps[1], "boundaries": 1 - maps[1]}

    def objects(self, maps: Maps, way: Way, sample: Sample) -> NDArray[np.int32]:
        """The objects of a sample, of the maps (classes, z, y, x) of its image."""
        return way.build()(self._named(sample.cut(maps)), sample.voxel_size)

    def _compared(self, truth: NDArray[np.int64], labels: NDArray[np.int32]) -> Any:
        overlaps = Overlaps.of(truth, labels)
        if self.config.figure == "AP50":
            return ObjectScores.of(compare(overlaps))
        prefix = "foreground_" if self.config.background == "ignored" else ""
        return partition_figures(overlaps)[f"{prefix}voi"]

    def _figure(self, each: Sequence[Any]) -> float:
        if self.config.figure == "AP50":
            return float(reduce(add, each).figures()["AP50"])
        return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def truth_of(sample: Sample) -> NDArray[np.int64]:
    """True labels of a sample; in a section of a volume, regions of a mask are those of the section, however they go on above it."""
    truth = sample.truth()
    opened = sample.image.opened
    if sample.plane is None or not opened.components or opened.flat:
        return truth
    return np.where(truth == IGNORED, IGNORED, label(np.where(truth == IGNORED, 0, truth), connectivity=1))
