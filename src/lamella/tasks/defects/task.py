"""The defects task: learn, from clean sections with damage put into them, where a section is damaged and how.

    total = mean over kinds of (cross entropy + dice_weight * Dice)

No labels are needed: what is put in is known to the pixel. What the net learns is worth as much as the damage looks like that of
real sections, see ``lamella.data.augment.painted``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamella.data.augment.trim import kept_size
from lamella.data.sample import Sample
from lamella.ops import map_losses as losses
from lamella.tasks.defects.config import DefectsConfig
from lamella.tasks.defects.net import DefectNet
from lamella.tasks.defects.panels import draw_panels
from lamella.tasks.defects.sample import DefectsSample, check_batch, prepare
from lamella.train.task import Task

_PATIENCE = 300  # steps that a new net may take before it finds anything


class DefectsTask(Task):
    """See the module. Held-out samples are damaged too, as otherwise there is nothing to find in them."""

    net: DefectNet

    def __init__(self, config: DefectsConfig) -> None:
        self.config = config
        self.net = DefectNet(config.net.build(1, len(config.kinds)), config.smoothing, config.kinds)

    def check(self, batch: Sample) -> None:
        check_batch(batch, self.config.trim, self.net.stride)

    def sample(self, batch: Sample, rng: np.random.Generator, training: bool) -> DefectsSample:
        config = self.config
        check_batch(batch, config.trim, self.net.stride)
        size = kept_size(batch.space, config.trim, self.net.stride)
        specimen, imaging = (config.specimen, config.imaging) if training else ((), ())
        return prepare(batch, size, (specimen, config.damage, imaging), config.kinds, rng)

    def loss(self, sample: DefectsSample, step: int) -> dict[str, Tensor]:
        return self._parts(self.net(sample.image), sample)

    def validate(self, sample: DefectsSample) -> dict[str, Tensor]:
        logits = self.net(sample.image)
        scores = self._parts(logits, sample)
        for k, kind in enumerate(self.config.kinds):
            probability, target = torch.sigmoid(logits[:, k, None]), sample.targets[:, k, None]
            scores[f"{kind}_dice"] = 1 - losses.dice(40 * (probability - 0.5), target, sample.valid)
        clean = 1 - sample.targets.amax(1, keepdim=True)
        found = (torch.sigmoid(logits).amax(1, keepdim=True) > 0.5).to(clean.dtype)
        scores["false"] = losses.mean(found, sample.valid * clean)
        return scores

    def inputs(self, sample: DefectsSample) -> tuple[Any, ...]:
        return (sample.image,)

    def compile(self) -> None:
        self.net.net.compile()

    def panels(self, sample: DefectsSample) -> dict[str, bytes]:
        return draw_panels(sample, torch.sigmoid(self.net(sample.image)), self.config.kinds)

    def watch(self, metrics: Mapping[str, float]) -> str | None:
        if metrics.get("step", 0) < _PATIENCE or metrics.get("found", 1.0) > 1e-4:
            return None
        return (
            "the net finds no defect anywhere. Look at the panels whether damage can be seen; then lower "
            "trainer.learning_rate and start again"
        )

    def _parts(self, logits: Tensor, sample: DefectsSample) -> dict[str, Tensor]:
        """The loss and its parts, and the share of pixels that the net takes for defects."""
        entropies, overlaps = [], []
        for k in range(len(self.config.kinds)):
            found, target = logits[:, k, None], sample.targets[:, k, None]
            entropies.append(losses.cross_entropy(found, target, sample.valid))
            overlaps.append(losses.dice(found, target, sample.valid))
        entropy, dice = torch.stack(entropies).mean(), torch.stack(overlaps).mean()
        found = losses.mean(torch.sigmoid(logits.detach()).amax(1, keepdim=True), sample.valid)
        return {"total": entropy + self.config.dice_weight * dice, "entropy": entropy, "dice": dice, "found": found}
