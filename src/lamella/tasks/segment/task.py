"""The segment task: learn, from labelled cells, maps of objects, boundaries and distances.

    total = obj_weight * (cross entropy + dice_weight * Dice)     objects
          + bnd_weight * cross entropy                            boundaries
          + dist_weight * cross entropy                           distance to the edge, relative to the cell's depth
          + the same of every single level                        nets with deep supervision, less and less

Distance beside objects and boundaries is what parts cells in dense fields: a boundary that is a little too faint in one place lets
two cells run together, while two hills of a distance map stay two (Schmidt et al. 2018; Stringer et al. 2021 with flows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.data.augment.trim import kept_size
from lamella.data.sample import Sample
from lamella.ops import map_losses as loss
from lamella.tasks.segment.config import SegmentConfig
from lamella.tasks.segment.net import Head, SegmentNet
from lamella.tasks.segment.panels import draw_panels
from lamella.tasks.segment.sample import SegmentSample, Truth, arranged, check_batch, prepare
from lamella.tasks.segment.scores import instances, precision_at_half
from lamella.train.task import Phase, Task

_PATIENCE = 300  # steps that a new net may take before it finds anything


class SegmentTask(Task):
    """See the module."""

    net: SegmentNet

    def __init__(self, config: SegmentConfig) -> None:
        self.config = config
        self.net = SegmentNet(config.net.build(config.channels, len(config.heads)), config.heads)
        self._truth = Truth(
            config.heads, config.boundary_thickness, config.touching_boundaries, config.voxel_size, config.small_weight
        )
        self._steps = 1

    def phases(self, steps: int) -> Sequence[Phase]:
        self._steps = steps
        return super().phases(steps)

    def check(self, batch: Sample) -> None:
        check_batch(batch, self.config.channels, self.net.ndim)
        kept_size(batch.space, self.config.trim, self.net.stride)

    def sample(self, batch: Sample, rng: np.random.Generator, training: bool) -> SegmentSample:
        config = self.config
        check_batch(batch, config.channels, self.net.ndim)
        size = kept_size(batch.space, config.trim if training else 1.0, self.net.stride)
        batch = arranged(batch, config.specimen if training else (), size, rng, config.crowded if training else 0.0)
        return prepare(batch, config.imaging if training else (), self._truth, rng)

    def loss(self, sample: SegmentSample, step: int) -> dict[str, Tensor]:
        logits, levels = self.net.with_levels(sample.image)
        parts = self._parts(logits, sample)
        total = self._total(parts)
        faded = self.config.auxiliary_weight * max(0.0, 1 - step / self._steps)
        if levels and faded:
            parts["auxiliary"] = torch.stack([self._total(self._parts(level, sample)) for level in levels]).mean()
            total = total + faded * parts["auxiliary"]
        return {"total": total, **parts}

    def validate(self, sample: SegmentSample) -> dict[str, Tensor]:
        logits = self.net(sample.image)
        parts = self._parts(logits, sample)
        maps = self._by_head(torch.sigmoid(logits))
        valid = self.net.shown(sample.valid)
        scores = {"total": self._total(parts), **parts}
        for head, name in (("objects", "object_iou"), ("boundaries", "boundary_iou")):
            if head in maps:
                scores[name] = loss.overlap(maps[head], self.net.shown(sample.targets[head]), valid)
        precision = precision_at_half(self._instances(maps, sample), self.net.shown(sample.labels), valid)
        return {**scores, "ap50": torch.tensor(precision)}

    def inputs(self, sample: SegmentSample) -> tuple[Any, ...]:
        return (sample.image,)

    def compile(self) -> None:
        self.net.net.compile()

    def panels(self, sample: SegmentSample) -> dict[str, bytes]:
        maps = self._by_head(self.net.maps(sample.image))
        inner = {head: self.net.shown(target) for head, target in sample.targets.items()}
        image, labels, valid = (self.net.shown(x) for x in (sample.image, sample.labels, sample.valid))
        shown = SegmentSample(image, labels, valid, inner, self.net.shown(sample.emphasis))
        return draw_panels(maps, shown, self._instances(maps, sample))

    def watch(self, metrics: Mapping[str, float]) -> str | None:
        if metrics.get("step", 0) < _PATIENCE or metrics.get("found", 1.0) > 1e-3:
            return None
        return (
            "the net finds no object anywhere. Look at the panels whether labels and images belong together; then raise "
            "data.objects or lower trainer.learning_rate and start again"
        )

    def _instances(self, maps: Mapping[Head, Tensor], sample: SegmentSample) -> list[NDArray[np.int32]]:
        image = self.net.shown(sample.image)[:, :1].clamp(0, 1)
        named = {str(head): tensor for head, tensor in maps.items()} | {"image": image}
        return list(instances(named, self.config.instances.build(), self.config.voxel_size))

    def _parts(self, logits: Tensor, sample: SegmentSample) -> dict[str, Tensor]:
        """The loss of every head, and the share of voxels that the net takes for objects."""
        valid = self.net.shown(sample.valid)
        weight = valid * self.net.shown(sample.emphasis)
        parts: dict[str, Tensor] = {}
        for head, found in self._by_head(logits).items():
            target = self.net.shown(sample.targets[head])
            parts[head] = loss.cross_entropy(found, target, weight)
            if head == "objects":
                parts["found"] = loss.mean(torch.sigmoid(found.detach()), valid)
                if self.config.dice_weight:
                    parts["dice"] = loss.dice(found, target, valid)
        return parts

    def _total(self, parts: Mapping[str, Tensor]) -> Tensor:
        config = self.config
        weights = {head: config.weight(head) for head in config.heads} | {
            "dice": config.obj_weight * config.dice_weight
        }
        return torch.stack([weight * parts[name] for name, weight in weights.items() if name in parts]).sum()

    def _by_head(self, tensor: Tensor) -> dict[Head, Tensor]:
        return {head: tensor[:, k, None] for k, head in enumerate(self.net.heads)}
