"""The head task: learn affinities or classes from embeddings, of labelled images or of a few points.

    total = mean squared error, or cross entropy, of affinities          labelled images
          = cross entropy of a softmax over classes                      labelled images, or points

With a base, embeddings are made of the images as it learns; a frozen base stays as it came. Without one, the head reads what the data
hold: embeddings that were stored, or pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment.trim import kept_size
from lamella.data.points import classes_in
from lamella.data.sample import Sample
from lamella.tasks.head import loss, scores
from lamella.tasks.head.config import HeadConfig
from lamella.tasks.head.net import HeadNet
from lamella.tasks.head.panels import map_panels, point_panels
from lamella.tasks.head.sample import (
    HeadSample,
    MapSample,
    PointSample,
    check_batch,
    map_sample,
    moved,
    point_sample,
)
from lamella.tasks.head.target import Affinities
from lamella.train.task import Phase, Task


class HeadTask(Task):
    """See the module."""

    net: HeadNet

    def __init__(self, config: HeadConfig) -> None:
        self.config = config
        self.net = config.build_net()

    def phases(self, steps: int) -> Sequence[Phase]:
        return (Phase(train={"head": 1.0}),) if self.net.frozen else super().phases(steps)

    def check(self, batch: Sample) -> None:
        check_batch(batch, self.config)
        listed = bool(classes_in(batch)) and batch.space[1:] == (1,) * (batch.ndim - 1)
        if listed and (self.net.base is not None or self.config.specimen or self.config.trim < 1):
            raise UserError(
                "a net, and augmentations that move images, need what surrounds the points; set data.crop to 64 or more"
            )
        if not listed:
            kept_size(batch.space, self.config.trim, self.net.stride, self.net.margin)

    def sample(self, batch: Sample, rng: np.random.Generator, training: bool) -> HeadSample:
        """What is shown, and what is to come of it; nothing is augmented for validation."""
        config = self.config
        check_batch(batch, config)
        share = config.trim if training else 1.0
        size = batch.space
        if self.net.base is not None or share < 1:
            size = kept_size(batch.space, share, self.net.stride, self.net.margin)
        batch = moved(batch, config.specimen if training else (), size, rng)
        imaging = config.imaging if training else ()
        if classes_in(batch):
            return point_sample(batch, config, imaging, self.net.margin, rng)
        return map_sample(batch, config, imaging, rng)

    def loss(self, sample: HeadSample, step: int) -> dict[str, Tensor]:
        if isinstance(sample, PointSample):
            return self._of_points(*self._at_points(sample))
        return self._of_maps(self.net(sample.image), sample)

    def validate(self, sample: HeadSample) -> dict[str, Tensor]:
        if isinstance(sample, PointSample):
            raw, classes = self._at_points(sample)
        else:
            maps = self.net(sample.image)
            if isinstance(self.config.target, Affinities):
                agree = scores.agreement(maps, self.net.shown(sample.target), self.net.shown(sample.valid))
                return {**self._of_maps(maps, sample), "agreement": agree}
            raw, classes = self._known(maps, sample)
        found = {"accuracy": scores.accuracy(raw, classes), "balanced": scores.accuracy(raw, classes, balanced=True)}
        parts = self._of_points(raw, classes) if isinstance(sample, PointSample) else self._of_maps(maps, sample)
        return {**parts, **found}

    def inputs(self, sample: HeadSample) -> tuple[Any, ...]:
        return (sample.image,)

    def compile(self) -> None:
        if self.net.base is not None:
            self.net.base.compile()

    def panels(self, sample: HeadSample) -> dict[str, bytes]:
        found = self.config.target.finish(self.net(sample.image))
        image = self.net.shown(sample.image)
        if isinstance(sample, PointSample):
            if sample.image.shape[-1] == 1:  # points without surroundings show nothing
                return {}
            return point_panels(image, sample, found)
        inner = MapSample(image, self.net.shown(sample.target), self.net.shown(sample.valid))
        return map_panels(inner, found, self.config.names)

    def _at_points(self, sample: PointSample) -> tuple[Tensor, Tensor]:
        """Raw outputs and classes of all points that count."""
        raw = self.net.at(sample.image, sample.points.nan_to_num(), self.config.sampling)
        classes = sample.classes.expand(sample.kept.shape)
        return raw[sample.kept], classes[sample.kept]

    def _of_points(self, raw: Tensor, classes: Tensor) -> dict[str, Tensor]:
        assert not isinstance(self.config.target, Affinities)
        total = loss.of_classes(raw, classes, balanced=self.config.target.balanced)
        return {"total": total, "points": raw.new_tensor(float(len(raw)))}

    def _of_maps(self, maps: Tensor, sample: MapSample) -> dict[str, Tensor]:
        target, valid = self.net.shown(sample.target), self.net.shown(sample.valid)
        if isinstance(self.config.target, Affinities):
            return {"total": loss.of_affinities(maps, target, valid, self.config.target.loss)}
        raw, classes = self._known(maps, sample)
        weights = valid.flatten()[target.flatten() >= 0]
        return {"total": loss.of_classes(raw, classes, balanced=self.config.target.balanced, weights=weights)}

    def _known(self, maps: Tensor, sample: MapSample) -> tuple[Tensor, Tensor]:
        """Raw outputs (n, k) and classes (n) of all voxels that are of a class."""
        target = self.net.shown(sample.target).flatten()
        flat = maps.movedim(1, -1).reshape(-1, maps.shape[1])
        return flat[target >= 0], target[target >= 0]
