"""The align task: learn, without labels, the field that lays one section on its neighbour.

The net is scored at every level that a phase trains, the finest most:

    total = similarity + λ1 smoothness                                  on neighbours (seed 001)
          + known       on fields that were drawn                       (supervised)
          + λ6 rotation + round trip + deformation + unrelated          (agreement of the net with itself)

``deformation`` asks that the field of a deformed source be the known deformation followed by the field of the source, which is
the bipath constraint of Truong et al. (Warp Consistency, ICCV 2021); ``unrelated`` asks for a zero field where there is
nothing to align, so that the net does not invent motion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from torch import Tensor

from lamella.core.config import Config
from lamella.data.augment import Imaging, Specimen, augment, default_imaging, default_specimen
from lamella.data.sample import Sample
from lamella.nets.aligner import AlignerConfig, Encoding, Encodings, Fields, SiamesePyramid
from lamella.ops.field import coarser, compose, halve, rotate180
from lamella.tasks.align import objective
from lamella.tasks.align.objective import SimilarityTerm, SmoothnessTerm
from lamella.tasks.align.panels import draw_panels
from lamella.tasks.align.sample import DEFORMED, SOURCE, TARGET, AlignSample, KnownFields, neighbours, prepare, trimmed
from lamella.tasks.align.schedule import LevelByLevel, Together
from lamella.train.task import Phase, Task

_PATIENCE = 500  # steps that a new net may take before it moves anything


class ConsensusTerm(Config):
    """How much the net must agree with itself; distances in pixels of the full size."""

    weight: float = Setting(0.0, ge=0, description="λ6: with the same pair turned by 180°, which removes drift")
    round_trip: float = Setting(0.03, ge=0, description="there and back again must end where it began")
    deformation: float = Setting(0.1, ge=0, description="a deformed source must give the deformation on top")
    unrelated: float = Setting(0.05, ge=0, description="images of different places must give no field")
    ramp: float = Setting(
        0.3,
        ge=0,
        le=1,
        description="share of the steps over which these weights rise: a net that matches nothing yet agrees",
    )

    def rise(self, progress: float) -> float:
        """Factor of the weights at ``progress`` (0 to 1) through the steps: 0 for a third of the ramp, then linear to 1."""
        return 1.0 if self.ramp == 0 else min(1.0, max(0.0, 1.5 * progress / self.ramp - 0.5))


class AlignConfig(Config):
    """Everything that defines an aligner, except data and training length."""

    kind: Literal["align"] = "align"
    net: AlignerConfig = AlignerConfig()
    similarity: SimilarityTerm = SimilarityTerm()
    smoothness: SmoothnessTerm = SmoothnessTerm()
    consensus: ConsensusTerm = ConsensusTerm()
    apart: int = Setting(
        1,
        ge=1,
        description="largest distance of the two sections of a pair; every distance from 1 on is drawn as often",
    )
    known: KnownFields = KnownFields()
    known_weight: float = Setting(0.1, ge=0, description="weight of the distance to drawn fields, per pixel")
    coarse_weight: float = Setting(0.5, ge=0, le=1, description="weight of each level against the next finer one")
    restore_range: bool = Setting(True, description="give downsampled images back their dynamic range in the loss")
    schedule: Annotated[Together | LevelByLevel, Setting(discriminator="kind")] = Together()
    specimen: tuple[Specimen, ...] = default_specimen()
    imaging: tuple[Imaging, ...] = default_imaging()
    trim: float = Setting(
        0.706, gt=0, le=1, description="share of a window's side that is kept: turning it leaves empty corners outside"
    )

    def build(self) -> AlignTask:
        return AlignTask(self)


class AlignTask(Task):
    """See the module."""

    net: SiamesePyramid

    def __init__(self, config: AlignConfig) -> None:
        self.config = config
        self.net = config.net.build()
        self._steps = 1

    def phases(self, steps: int) -> Sequence[Phase]:
        self._steps = steps
        return self.config.schedule.phases(self.config.net, steps)

    def sample(self, batch: Sample, rng: np.random.Generator, training: bool) -> AlignSample:
        config = self.config
        num_identical = round(config.known.share * batch.batch)
        if training:
            batch = augment(batch, config.specimen, rng)
        pairs = neighbours(trimmed(batch, config.trim), rng, num_identical, config.apart)
        return prepare(pairs, config.imaging if training else (), config.known, rng, num_identical)

    def loss(self, sample: AlignSample, step: int) -> dict[str, Tensor]:
        stop = self.config.schedule.stop_level(self.config.net, step, self._steps)
        weights = self._weights(step / self._steps)
        parts = self._parts(sample, stop, weights)
        total = torch.zeros((), device=sample.shown.device)
        for level, values in parts.items():
            share = self.config.coarse_weight ** (level - stop)
            total = total + share * sum((weights[k] * v for k, v in values.items() if k in weights), total * 0)
        return {"total": total, **parts[stop]}

    def validate(self, sample: AlignSample) -> dict[str, Tensor]:
        return self.loss(sample, self._steps)

    def panels(self, sample: AlignSample) -> dict[str, bytes]:
        return draw_panels(self.net, sample, self.config.similarity, self.config.smoothness)

    def inputs(self, sample: AlignSample) -> tuple[Tensor, Tensor]:
        return sample.shown[:, SOURCE, None], sample.shown[:, TARGET, None]

    def watch(self, metrics: Mapping[str, float]) -> str | None:
        if metrics.get("moved", 1.0) > 0.02 or metrics.get("step", 0) < _PATIENCE:
            return None
        return (
            f"the net gives a zero field (mean length {metrics['moved']:.3g} px). This is rarely recovered from: lower "
            "task.smoothness.weight or trainer.learning_rate and start again"
        )

    def _weights(self, progress: float) -> dict[str, float]:
        c, rise = self.config, self.config.consensus.rise(progress)
        return {
            "similarity": c.similarity.weight,
            "smoothness": c.smoothness.weight,
            "known": c.known_weight,
            "rotation": c.consensus.weight * rise,
            "round_trip": c.consensus.round_trip * rise,
            "deformation": c.consensus.deformation,
            "unrelated": c.consensus.unrelated * rise,
        }

    def _parts(self, sample: AlignSample, stop: int, weights: Mapping[str, float]) -> dict[int, dict[str, Tensor]]:
        """Every part of the loss at every level down to ``stop``; parts without weight are left out, as is their cost."""
        fields = _Fields(self.net, sample, stop)
        known, valid = _coarsened(sample.known, sample.known_valid, self.config.net.levels)
        return {level: self._at_level(level, fields, known[level], valid[level], weights) for level in fields.levels}

    def _at_level(
        self, level: int, fields: _Fields, known: Tensor, valid: Tensor, weights: Mapping[str, float]
    ) -> dict[str, Tensor]:
        scale, same = 2.0**level, fields.sample.num_identical
        deformed = fields.deformed()[level]
        parts = {"moved": deformed.detach().square().sum(1).sqrt().mean() * scale}
        if same and weights["known"]:
            parts["known"] = objective.distance(deformed[:same], known[:same], valid[:same], scale)
        if same == deformed.shape[0]:
            return parts
        field = fields.forward()[level]
        deformed, known, valid = deformed[same:], known[same:], valid[same:]
        everywhere = torch.ones_like(valid)
        pair = fields.pair_at(level, self.config.restore_range)
        if weights["similarity"]:
            term = self.config.similarity
            compared = fields.clean(level) if term.penalty.compares == "encodings" else None
            parts["similarity"] = objective.similarity(term, pair, field, compared)
        parts["smoothness"] = objective.smoothness(self.config.smoothness, pair, field, level)
        if weights["deformation"]:
            expected = compose(known, field)
            seen = valid * objective.looks_inside(field)
            parts["deformation"] = objective.distance(deformed, expected, seen, scale)
        if weights["round_trip"]:
            parts["round_trip"] = objective.round_trip(field, fields.backward()[level], everywhere, scale)
        if weights["rotation"]:
            parts["rotation"] = objective.distance(field, fields.rotated()[level], pair.target_valid, scale)
        if weights["unrelated"] and field.shape[0] > 1:
            unrelated = fields.unrelated()[level]
            parts["unrelated"] = objective.distance(unrelated, torch.zeros_like(unrelated), everywhere, scale)
        return parts


class _Fields:
    """The fields that a step asks for, each computed once; encodings are shared between them."""

    def __init__(self, net: SiamesePyramid, sample: AlignSample, stop: int) -> None:
        self.net, self.sample, self.stop = net, sample, stop
        self.levels = range(net.config.levels - 1, stop - 1, -1)
        self._encodings = [net.encode(sample.shown[:, i, None]) for i in range(sample.shown.shape[1])]
        self._done: dict[str, Fields] = {}
        self._clean: tuple[Encodings, Encodings] | None = None
        real = slice(sample.num_identical, None)
        p = sample.pair
        self._pair = objective.Pair(
            *(x[real] for x in (p.source, p.target, p.source_valid, p.target_valid)),
            *(None if x is None else x[real] for x in (p.source_mask, p.target_mask)),
        )

    def deformed(self) -> Fields:
        """Fields from the deformed image to the target, for the whole batch."""
        if "deformed" not in self._done:
            self._done["deformed"] = self.net.align(self._encodings[DEFORMED], self._encodings[TARGET], self.stop)
        return self._done["deformed"]

    def forward(self) -> Fields:
        """Fields from the source to the target, for the pairs of neighbours."""
        if "forward" not in self._done:
            self._done["forward"] = self.net.align(self._real(SOURCE), self._real(TARGET), self.stop)
        return self._done["forward"]

    def backward(self) -> Fields:
        """Fields from the target to the source, for the pairs of neighbours."""
        if "backward" not in self._done:
            self._done["backward"] = self.net.align(self._real(TARGET), self._real(SOURCE), self.stop)
        return self._done["backward"]

    def unrelated(self) -> Fields:
        """Fields from another pair's source, mirrored, to the target."""
        if "unrelated" not in self._done:
            elsewhere = {level: e.roll(1, 0).flip(-1) for level, e in self._real(SOURCE).items()}
            self._done["unrelated"] = self.net.align(elsewhere, self._real(TARGET), self.stop)
        return self._done["unrelated"]

    def rotated(self) -> Fields:
        """Fields of the neighbours turned by 180°, turned back."""
        if "rotated" not in self._done:
            shown = self.sample.shown[self.sample.num_identical :].flip((-2, -1))
            source, target = (self.net.encode(shown[:, i, None]) for i in (SOURCE, TARGET))
            fields = self.net.align(source, target, self.stop)
            self._done["rotated"] = {level: rotate180(field) for level, field in fields.items()}
        return self._done["rotated"]

    def pair_at(self, level: int, restore_range: bool) -> objective.Pair:
        """The clean neighbours at a level."""
        return self._pair.at_level(level, restore_range=restore_range)

    def clean(self, level: int) -> tuple[Encoding, Encoding]:
        """Encodings of the clean neighbours at a level, as they are: they take no gradient and leave no trace in the net."""
        if self._clean is None:
            encoders, training = self.net.encoders, self.net.encoders.training
            with torch.no_grad():
                encoders.eval()
                self._clean = self.net.encode(self._pair.source), self.net.encode(self._pair.target)
                encoders.train(training)
        return self._clean[0][level].float(), self._clean[1][level].float()

    def _real(self, channel: int) -> Encodings:
        return {level: e[self.sample.num_identical :] for level, e in self._encodings[channel].items()}


def _coarsened(field: Tensor, valid: Tensor, levels: int) -> tuple[list[Tensor], list[Tensor]]:
    fields, valids = [field], [valid]
    for _ in range(1, levels):
        fields.append(coarser(fields[-1]))
        valids.append(halve(valids[-1]))
    return fields, [(v > 0.99).to(v.dtype) for v in valids]
