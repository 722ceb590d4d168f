"""The translate task: learn what a specimen looks like in one contrast from what it looks like in another.

    total = sum of the terms of ``task.loss``, each a mean over what counts (see ``lamella.tasks.translate.loss``)

Scores on held-out samples are those that predictions are judged by afterwards: R², Pearson's r, SSIM and MS-SSIM of intensities, Dice
of segmentations; for each target by itself where there are several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lamella.core.errors import UserError
from lamella.data.augment.trim import kept_size
from lamella.data.sample import Sample
from lamella.ops import fidelity
from lamella.tasks.translate.config import TranslateConfig
from lamella.tasks.translate.net import TranslateNet
from lamella.tasks.translate.panels import draw_panels
from lamella.tasks.translate.sample import Expected, TranslateSample, arranged, check_batch, in_plane, prepare
from lamella.train.task import Task

Maps = Float[Tensor, "b t *space"]

_PATIENCE = 300  # steps that a new net may take before its predictions vary
_SIMILARITIES: tuple[tuple[str, Any, fidelity.Window, int, int], ...] = (
    ("ssim", fidelity.ssim, "uniform", 7, 7),
    ("ms_ssim", fidelity.ms_ssim, "gaussian", 11, fidelity.least_side(len(fidelity.SCALES), 11)),
)  # name, function, window, its side, the least side of an image
_FLAT = 1e-3  # of the target's spread; predictions that are of use have more than a tenth


class TranslateTask(Task):
    """See the module."""

    net: TranslateNet

    def __init__(self, config: TranslateConfig) -> None:
        self.config = config
        self.net = TranslateNet(config.build_net(), config.final)
        outputs = config.targets * (config.depth if config.whole_window else 1)
        self._expected = Expected(self.net.ndim, config.channels * config.depth, outputs, self.net.stride)

    def check(self, batch: Sample) -> None:
        check_batch(batch, self._expected)
        size = kept_size(batch.space, in_plane(batch.space, self.config.trim), self.net.stride)
        given = tuple(n - 2 * m for n, m in zip(size, self.net.margin, strict=True))
        least = self.config.loss.least
        if min(given[-2:]) < least:
            raise UserError(
                f"a crop of {tuple(batch.space)} leaves {given} to compare, and the loss needs {least} pixels along y and x; enlarge "
                "data.crop, give ms_dssim fewer scales, or choose another task.loss"
            )

    def sample(self, batch: Sample, rng: np.random.Generator, training: bool) -> TranslateSample:
        config = self.config
        check_batch(batch, self._expected)
        share = config.trim if training else 1.0
        size = kept_size(batch.space, in_plane(batch.space, share), self.net.stride)
        batch = arranged(batch, config.specimen if training else (), size, rng)
        return prepare(batch, config.imaging if training else (), config.depth, rng)

    def loss(self, sample: TranslateSample, step: int) -> dict[str, Tensor]:
        return self._losses(sample)[0]

    def validate(self, sample: TranslateSample) -> dict[str, Tensor]:
        parts, prediction = self._losses(sample)
        target, weight = (self.net.shown(x) for x in (sample.target, sample.weight))
        return {**parts, **self._scores(prediction, target, weight)}

    def inputs(self, sample: TranslateSample) -> tuple[Any, ...]:
        return (sample.image,)

    def compile(self) -> None:
        self.net.net.compile()

    def panels(self, sample: TranslateSample) -> dict[str, bytes]:
        prediction = self.net.finish(self.net(sample.image))
        shown = TranslateSample(*(self.net.shown(x) for x in (sample.image, sample.target, sample.weight)))
        return draw_panels(shown, prediction, self.config.targets)

    def watch(self, metrics: Mapping[str, float]) -> str | None:
        if metrics.get("step", 0) < _PATIENCE or metrics.get("contrast", 1.0) > _FLAT:
            return None
        return (
            "the predictions are the same everywhere. Look at the panels whether inputs and targets belong together; then lower "
            "trainer.learning_rate, or choose another task.final, and start again"
        )

    def _losses(self, sample: TranslateSample) -> tuple[dict[str, Tensor], Maps]:
        raw = self.net(sample.image)
        prediction = self.net.finish(raw)
        target, weight = (self.net.shown(x) for x in (sample.target, sample.weight))
        parts = self.config.loss(raw, prediction, target, weight)
        with torch.no_grad():
            parts["contrast"] = prediction.std() / target.std().clamp_min(1e-6)
        return parts, prediction

    def _scores(self, prediction: Maps, target: Maps, weight: Maps) -> dict[str, Tensor]:
        """Means over the samples, and over the targets if there are several."""
        if self.config.learn == "segmentation":
            found = {"dice": fidelity.dice((prediction > 0.5).float(), target, weight)}
        else:
            found = {"r2": fidelity.r_squared(prediction, target, weight)}
            found["pearson"] = fidelity.pearson(prediction, target, weight)
            for name, measure, window, side, least in _SIMILARITIES:
                if min(target.shape[-2:]) >= least:
                    sides = (*[1] * (target.ndim - 4), side, side)  # slices are farther apart than pixels
                    found[name] = measure(prediction, target, weight, window=window, size=sides)
        scores = {name: fidelity.over_samples(values, weight) for name, values in found.items()}
        slices = target.shape[1] // self.config.targets
        for k in range(self.config.targets if self.config.targets > 1 else 0):
            own = slice(k * slices, (k + 1) * slices)
            scores |= {f"{name}_{k}": fidelity.over_samples(v[:, own], weight[:, own]) for name, v in found.items()}
        return scores
