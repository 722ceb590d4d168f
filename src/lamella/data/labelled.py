"""Images with labelled objects, to learn segmentation from: crops at native pixel size, or whole images trimmed to one size.

Sample ``i`` is drawn from the random stream (seed, i) alone, so a resumed run goes on with the samples that the interrupted one
would have seen, with any number of workers. A sample has

- ``image`` (image, (1, c, *space), float32), each channel scaled by the normaliser; with ``slices`` neighbouring sections are
  channels, those of the first channel first;
- ``labels`` (label, (1, 1, *space), int64), 0 background, every object its own number, 0 where labels are ignored;
- ``valid`` (weight, (1, 1, *space), float32), 1 where the annotation counts, 0 where labels are ignored, outside the image and in
  the crop's ``context``.

Space is ``y x``, or ``z y x`` with ``ndim`` 3. Beyond the edge of an image, image and labels are mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from lamella.core.rng import stream
from lamella.data.crops import CropsConfig
from lamella.data.labelled_image import LabelledImage
from lamella.data.labelled_load import Loaded, load
from lamella.data.labelled_source import LabelledSource
from lamella.data.numbered import Chances, Drawn, Numbered
from lamella.data.sample import Layer, Sample
from lamella.ops.trim import TrimConfig, trim

IMAGE, LABELS, VALID = "image", "labels", "valid"


class LabelledData(CropsConfig):
    """Which images a net is trained on, and what of them it sees."""

    held_out_needs_length: ClassVar[bool] = False  # without one, every image is validated on once

    kind: Literal["labelled"] = "labelled"
    sources: tuple[LabelledSource, ...] = Field(min_length=1, description="data sets of images and labels")
    objects: float = Field(0.5, ge=0, le=1, description="share of crops around an object; the others lie anywhere")
    trim: TrimConfig | None = Field(None, description="whole images, trimmed to one size, in place of crops")
    ignore: tuple[int, ...] = Field((), description="labels of regions that nobody could annotate, such as blobs: (1,)")

    @model_validator(mode="after")
    def _check(self) -> LabelledData:
        if 0 in self.ignore:
            raise ValueError("label 0 is the background; ignore labels above it")
        return self

    def build(self, seed: int) -> LabelledSamples:
        """Open all images, look at all labels, and keep in memory what fits.

        Raises UserError, naming the file, for images without labels and labels without image, sizes that differ, labels that
        are colours, floats or a mask, sources without any object, and files that cannot be read.
        """
        return LabelledSamples(self, load(self), seed)

    def held_out(self, seed: int) -> LabelledSamples | Tiles:
        """Samples to validate on: ``length`` of them, or tiles that cover each image once."""
        return self.build(seed) if self.length is not None else Tiles(self, load(self))


class _Samples(Numbered):
    """What drawn samples and tiles share."""

    def __init__(self, config: LabelledData, loaded: Loaded) -> None:
        self.config, self.images, self.skipped, self.crops = config, loaded.images, loaded.skipped, config.crops

    @property
    def num_channels(self) -> int:
        """Channels of ``image``."""
        return self.images[0].part.num_channels * self.config.slices

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """That of the first image, for each spatial axis, 1 where it is not known."""
        meta = self.images[0].part.volume.meta
        size = dict(zip(meta.axes, meta.voxel_size, strict=True))
        return tuple(size.get(a, 1.0) for a in "zyx"[-self.config.ndim :])

    def _whole(self, image: LabelledImage, plane: int) -> Sample:
        """A whole image, or section ``plane`` of it, trimmed."""
        assert self.config.trim is not None
        window = self.crops.whole(image, plane)
        ndim, method = self.config.ndim, self.config.trim
        return _sample(
            trim(window.image, method, ndim),
            trim(window.labels, method, ndim, "labels"),
            trim(window.valid, method, ndim, "valid"),
        )


class LabelledSamples(Drawn, _Samples):
    """Samples by index, see the module. Picklable; indices past ``length`` begin again. ``skipped`` lists files left out."""

    def __init__(self, config: LabelledData, loaded: Loaded, seed: int) -> None:
        super().__init__(config, loaded)
        self.seed, self.length = seed, config.length
        self._chances = Chances([config.chance(image) for image in self.images])

    def sample(self, index: int) -> Sample:
        rng = stream(self.seed, "sample", index)
        image = self.images[self._chances.pick(rng)]
        if self.config.trim is not None:
            return self._whole(image, image.planes[int(rng.integers(len(image.planes)))])
        start = self.crops.draw(rng, image, self.config.objects)
        window = self.crops.window(image, start)
        return _sample(window.image, window.labels, window.valid)


class Tiles(_Samples):
    """All images once, in order: each voxel that counts is ``valid`` in exactly one tile. Trimmed images are tiles themselves."""

    def __init__(self, config: LabelledData, loaded: Loaded) -> None:
        super().__init__(config, loaded)
        self._tiles = [(image, start) for image in self.images for start in self._starts(image)]

    def _starts(self, image: LabelledImage) -> Sequence[tuple[int, ...]]:
        if self.config.trim is not None:
            return [(plane, 0, 0) for plane in (image.planes if self.config.ndim == 2 else image.planes[:1])]
        return self.crops.cover(image)

    def __len__(self) -> int:
        return len(self._tiles)

    def __getitem__(self, index: int) -> Sample:
        image, start = self._tiles[index]
        if self.config.trim is not None:
            return self._whole(image, start[0])
        window = self.crops.window(image, start)
        return _sample(window.image, window.labels, self.crops.own(image, start, window.valid))


def _sample(image: np.ndarray, labels: np.ndarray, valid: np.ndarray) -> Sample:
    """Arrays (c, *space), (*space) and (*space) as a sample of one."""
    return Sample(
        {
            IMAGE: Layer(torch.from_numpy(np.ascontiguousarray(image))[None], "image"),
            LABELS: Layer(torch.from_numpy(np.ascontiguousarray(labels))[None, None], "label"),
            VALID: Layer(torch.from_numpy(np.ascontiguousarray(valid))[None, None], "weight"),
        }
    )
